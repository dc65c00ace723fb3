"""How int8 activations' ranges are found, compared: what each method costs in verification terms.

    python benchmarks/int8_calibration.py CHECKPOINT --data FOLDER [--part choose] [--crops 512]

For each runtime and each method of an export recipe (moving-average, min-max, percentile, entropy),
and for the ranges that the checkpoint was trained with where it has any: cosines and ΔFNMR at FMR
1e-2 and 1e-3 against torch, with intervals over people. Methods are chosen on part 'choose'; part
'report' stays for the export's own gate. docs/bundle.md has a table of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from limen.export.evidence import draw_crops
from limen.export.fold import fold
from limen.export.gate import HeldOut, measure_gate
from limen.export.graphs import BuiltGraph
from limen.export.learnt_ranges import chosen_ranges
from limen.export.onnx_graphs import float32_onnx, int8_onnx
from limen.export.recipe import Calibration, load_export_recipe
from limen.export.tflite_graphs import float32_tflite, int8_tflite
from limen.train.checkpoint import load_checkpoint
from limen.train.pictures import CHOOSE, FIT, open_pictures
from limen.train.validation import embed_pictures

METHODS = ("moving-average", "min-max", "percentile", "entropy")
MOST_HELD = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", default=CHOOSE)
    parser.add_argument("--crops", type=int, default=512)
    parser.add_argument("--held", type=int, default=MOST_HELD)
    parser.add_argument("--runtimes", nargs="*", default=["onnx", "tflite"])
    asked = parser.parse_args()

    checkpoint = load_checkpoint(asked.checkpoint)
    network, px = checkpoint.network(), checkpoint.recipe.input_px
    folded = fold(network)
    fit = open_pictures(asked.data, FIT)
    crops = draw_crops(fit, asked.crops, px, np.random.default_rng([0, 0]))
    pictures = open_pictures(asked.data, asked.part)
    some = np.arange(len(pictures))
    if len(some) > asked.held:
        some = np.sort(np.random.default_rng([0, 1]).choice(some, asked.held, replace=False))
    held = HeldOut(
        asked.part,
        np.stack([pictures.decode(int(index), px) for index in some]),
        embed_pictures(network, pictures, px)[some],
        pictures.identity[some],
    )
    recipe = load_export_recipe("full").model_copy(update={"latency_runs": 1, "threads": (1,)})
    learnt = chosen_ranges(network, px, None)
    print("| runtime | ranges | cosine mean | lowest | ΔFNMR at FMR 1e-2 | at 1e-3 |")
    print("|---|---|---|---|---|---|")
    for runtime in asked.runtimes:
        onnx = runtime == "onnx"
        before = float32_onnx(folded, px) if onnx else float32_tflite(folded, px)
        for method in (*METHODS, *(["learnt"] if learnt is not None else [])):
            calibration = Calibration(
                **{} if method == "learnt" else {runtime: method}  # type: ignore[arg-type]
            )
            own = learnt if method == "learnt" else None
            make = int8_onnx if onnx else int8_tflite
            content = make(before, crops, calibration, learnt=own)
            graph = BuiltGraph(f"int8.{runtime}", "onnx" if onnx else "tflite", "int8", content)
            (row,) = measure_gate([graph], held, recipe).graphs
            changes = [f"{c.change:+.4f} ({c.low:+.4f} … {c.high:+.4f})" for c in row.fnmr[:2]]
            cells = [runtime, method, f"{row.mean_cosine:.4f}", f"{row.min_cosine:.4f}", *changes]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
