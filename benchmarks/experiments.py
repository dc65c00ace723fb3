"""The table of experiments in docs/training.md: short runs of many recipes at one budget.

    python benchmarks/experiments.py --data FACES --slim-from SFACE.onnx --out runs/experiments

Rows are in `experiments.toml` beside this file. A row that is done is not run again, an interrupted
one is resumed; `--only ROW` runs one. Figures are over all pairs of `choose`, with 95 % intervals from
resampling people. CPU seconds are of the whole process, both for training and for validation, so
that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from limen.export.comparison import Ranked, fnmr_intervals, pairs_of
from limen.files import write_atomically
from limen.train.allocator import restart_with_fast_allocator
from limen.train.checkpoint import load_checkpoint
from limen.train.networks.family import count_multiply_adds, count_parameters
from limen.train.pictures import CHOOSE, open_pictures
from limen.train.recipe import Recipe
from limen.train.run import start_training
from limen.train.run_folder import LAST
from limen.train.validation import embed_pictures

EXPERIMENTS = Path(__file__).with_suffix(".toml")


def recipe_of(row: dict[str, Any], experiments: dict[str, Any]) -> Recipe:
    """The whole recipe of a row: the base, with the row's keys in place of the base's."""
    recipe = dict(experiments["base"])
    for key, value in row.items():
        if key == "model":
            recipe[key] = recipe[key] | value
        elif key not in ("start", "stages"):
            recipe[key] = value
    recipe["stages"] = [
        experiments["stage"]
        | {key: value for key, value in stage.items() if key != "learn"}
        | {"objectives": [experiments["learn"][name] for name in stage["learn"]]}
        for stage in row["stages"]
    ]
    return Recipe.model_validate(recipe)


def run_row(name: str, row: dict[str, Any], recipe: Recipe, options: argparse.Namespace) -> None:
    """Train and validate one row, and write its `row.json`."""
    folder = options.out / name
    done = folder / "row.json"
    if done.exists():
        return
    start = row["start"]
    warm = {"slim_from": options.slim_from} if start == "slimmed" else {}
    if start not in ("slimmed", "noise"):
        warm = {"init_from": options.out / start / LAST}
    before = time.process_time()
    resume = (folder / LAST).exists()
    trainer = start_training(
        recipe, options.data, folder, resume=resume, threads=options.threads, **warm
    )
    print(f"{name}: {trainer.summary()}", flush=True)
    trainer.run()
    seconds = time.process_time() - before
    checkpoint = load_checkpoint(folder / LAST)
    if checkpoint.step < recipe.total_steps:
        raise SystemExit(f"{name}: stopped at step {checkpoint.step}; the same command goes on")
    network = checkpoint.network()
    choose = open_pictures(options.data, CHOOSE)
    pairs = pairs_of(choose.identity)
    assert pairs is not None, "the part 'choose' has no pairs of both kinds"
    scores = pairs.scores(embed_pictures(network, choose, recipe.input_px))
    figures = fnmr_intervals(pairs, Ranked(pairs, scores), np.random.default_rng(1))
    with write_atomically(done) as file:
        file.write(
            json.dumps(
                {
                    "start": start,
                    "parameters": count_parameters(network),
                    "multiply_adds": count_multiply_adds(network, recipe.input_px),
                    "pictures": recipe.total_steps
                    * (recipe.batch.identities * recipe.batch.per_identity),
                    "cpu_seconds": None if resume else round(seconds),
                    "fnmr": {str(fmr): figure for fmr, figure in figures.items()},
                }
            ).encode()
        )


def print_table(names: list[str], out: Path) -> None:
    """A row of Markdown for each experiment that is done."""
    print("| recipe | from | M parameters | M multiply-adds | CPU s |", end=" ")
    print("FNMR at FMR 1e-2 | at 1e-3 |\n|---|---|---|---|---|---|---|")
    for name in names:
        file = out / name / "row.json"
        if not file.exists():
            continue
        row = json.loads(file.read_text())
        wide, narrow = row["fnmr"]["0.01"], row["fnmr"]["0.001"]
        print(
            f"| {name} | {row['start']} | {row['parameters'] / 1e6:.2f} "
            f"| {row['multiply_adds'] / 1e6:.0f} | {row['cpu_seconds'] or '-'} "
            f"| {wide[0]:.3f} [{wide[1]:.3f}, {wide[2]:.3f}] "
            f"| {narrow[0]:.3f} [{narrow[1]:.3f}, {narrow[2]:.3f}] |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--slim-from", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--threads", type=int, help="of the network; all cores")
    parser.add_argument("--only", action="append", help="a row's name; may be repeated")
    options = parser.parse_args()
    restart_with_fast_allocator()
    experiments = tomllib.loads(EXPERIMENTS.read_text("utf-8"))
    rows = experiments["rows"]
    recipes = {name: recipe_of(row, experiments) for name, row in rows.items()}  # all are checked
    for name in options.only or rows:
        if name not in rows:
            parser.error(f"no row '{name}': one of {', '.join(rows)}")
        run_row(name, rows[name], recipes[name], options)
    print_table(list(rows), options.out)


if __name__ == "__main__":
    main()
