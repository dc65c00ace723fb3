"""From the start of `limen run` to its first decision, against what nobody can do without.

first_decision.py [--rounds N] [--json]: the floor is a Python that imports numpy, OpenCV and LiteRT and
loads the two graphs of the shipped bundle. Both are whole processes, taken in turn; medians of
processor time (a busy machine tells little about a clock), and of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FLOOR = """
import sys
import cv2, numpy
from ai_edge_litert.interpreter import Interpreter
for path in sys.argv[1:]:
    Interpreter(model_content=open(path, "rb").read(), num_threads=1).allocate_tensors()
"""
GOAL = 2.0


def enrolled(folder: Path) -> list[str]:
    """A gallery of 50 made-up people, calibrated by hand, and a picture; the arguments of run."""
    import limen
    from limen.device.fakes import fake_operating_point
    from limen.device.gallery import Gallery
    from limen.images import encode_jpeg

    bundle = limen.open_bundle()
    embedder = bundle.embedder()
    rng = np.random.default_rng(0)
    with Gallery.open(folder / "g.db", model_id=embedder.model_id, create=True) as gallery:
        for number in range(50):
            rows = rng.normal(size=(3, bundle.manifest.embedding_size))
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            gallery.enrol(f"p{number}", rows.astype(np.float32), [0.9] * 3, "2026-01-01T00:00:00Z")
        point = fake_operating_point(0.9).model_copy(update={"model_id": embedder.model_id})
        gallery.keep_operating_point(point)
    picture = encode_jpeg(rng.integers(0, 256, (480, 640, 3)).astype(np.uint8))
    (folder / "frame.jpg").write_bytes(picture)
    return ["--gallery", str(folder / "g.db"), "--source", str(folder / "frame.jpg"), "--decisions"]


def graphs(folder: Path) -> list[str]:
    """The graphs that the board would choose, as files."""
    import limen

    bundle = limen.open_bundle()
    finder = bundle.manifest.finder
    chosen = [bundle.graph().path]
    chosen += [
        g.path
        for g in bundle.manifest.finder_graphs
        if g.runtime == "tflite" and g.precision == finder.default_precision
    ]
    for path in chosen:
        (folder / path).write_bytes(bundle.part(path))
    return [str(folder / path) for path in chosen]


def timed(command: list[str]) -> tuple[float, float]:
    """Processor time and clock of a process, s."""
    before, start_s = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    clock_s, after = time.perf_counter() - start_s, os.times()
    if done.returncode != 0:
        sys.exit(done.stderr)
    used_s = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return used_s, clock_s


def measure(rounds: int) -> dict[str, float]:
    """Medians and their ratios."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        run = [sys.executable, "-m", "limen.cli.main", "run", *enrolled(folder)]
        floor = [sys.executable, "-c", FLOOR, *graphs(folder)]
        timed(run), timed(floor)  # the files are in memory from now on
        taken = np.array([[*timed(floor), *timed(run)] for _ in range(rounds)])
    floor_cpu, floor_clock, run_cpu, run_clock = np.median(taken, axis=0)
    return {
        "floor_cpu_s": floor_cpu,
        "run_cpu_s": run_cpu,
        "cpu_ratio": run_cpu / floor_cpu,
        "floor_clock_s": floor_clock,
        "run_clock_s": run_clock,
        "clock_ratio": float(np.median(taken[:, 3] / taken[:, 1])),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    figures = measure(told.rounds)
    if told.json:
        print(json.dumps({key: round(float(value), 3) for key, value in figures.items()}))
    else:
        for key, value in figures.items():
            print(f"{key:14s} {value:.3f}")
        print(f"goal: at most {GOAL:g} times")
