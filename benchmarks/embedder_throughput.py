"""The float embedder's multiply-adds a second against numpy's float32 matrix product, on one core.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/embedder_throughput.py

Multiply-adds of the network are counted by `count_multiply_adds` on the checkpoint that the shipped
bundle was made of; those of the product of two n x n matrices are n³. One thread, in turn, the
processor's time, so that a busy machine hits both. Prints medians and the ratio. The bundle ships the
float graph with weights stored in 16 bits; it computes in 32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

import limen
from limen.train.checkpoint import load_checkpoint
from limen.train.networks.family import count_multiply_adds

SIDES = (512, 1024)
WARM_UP = 5


def main() -> None:
    """Print both and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/quantised.pt"))
    parser.add_argument("--runs", type=int, default=100)
    arguments = parser.parse_args()
    bundle = limen.open_bundle()
    network = load_checkpoint(arguments.checkpoint).network()
    work = count_multiply_adds(network, bundle.manifest.input.px)
    embedder = bundle.embedder("tflite", "float16")
    rng = np.random.default_rng(0)
    px = bundle.manifest.input.px
    crop = rng.integers(0, 256, (1, px, px, 3), dtype=np.uint8)
    matrices = {side: rng.standard_normal((2, side, side), np.float32) for side in SIDES}
    speeds: dict[str, list[float]] = {"embedder": [], **{f"numpy {side}": [] for side in SIDES}}
    for run in range(WARM_UP + arguments.runs):
        started = time.process_time()
        embedder.embed(crop)
        took = {"embedder": work / (time.process_time() - started)}
        for side, (left, right) in matrices.items():
            started = time.process_time()
            left @ right
            took[f"numpy {side}"] = side**3 / (time.process_time() - started)
        if run >= WARM_UP:
            for name, speed in took.items():
                speeds[name].append(speed)
    print(f"{work / 1e6:.0f} million multiply-adds a face")
    for name, values in speeds.items():
        print(
            f"{name:12} {statistics.median(values) / 1e9:7.1f} thousand million multiply-adds a second"
        )
    for side in SIDES:
        peer = speeds[f"numpy {side}"]
        ratio = statistics.median(a / b for a, b in zip(speeds["embedder"], peer, strict=True))
        print(f"embedder / numpy {side}: {ratio:.2f}")


if __name__ == "__main__":
    main()
