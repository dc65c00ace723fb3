"""How long a calibration of 50 people and 5,000 strangers takes, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/calibration_time.py [--people 50] [--strangers 5000]

A gallery on disk, three references each, made-up embeddings; all that `limen calibrate` does once
its bundle and gallery are open: reading, faults, scores, bound, meaning, menagerie, keeping.
Medians of wall time and of processor time; on a busy machine only the second says something.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from limen.bundle import CohortEmbeddings
from limen.device.calibration import (
    Wish,
    find_operating_point,
    gallery_menagerie,
    keep_calibration,
)
from limen.device.gallery import Gallery

SIZE, AT = 128, "2026-11-01T12:00:00Z"


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--strangers", type=int, default=5000)
    parser.add_argument("--pictures", type=int, default=1, help="of each stranger")
    parser.add_argument("--times", type=int, default=7)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    own = np.repeat(rng.normal(size=(given.strangers, SIZE)), given.pictures, 0)
    cohort = CohortEmbeddings(
        unit(own + 0.6 * rng.normal(size=own.shape)),
        np.repeat(np.arange(given.strangers), given.pictures),
    )
    bundle = SimpleNamespace(cohort=lambda: cohort, manifest=SimpleNamespace(threshold_floor=None))
    wall, processor = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        Gallery.open(Path(folder) / "g.db", model_id="0" * 32, create=True) as gallery,
    ):
        for number in range(given.people):
            rows = unit(rng.normal(size=SIZE) + 0.6 * rng.normal(size=(3, SIZE)))
            gallery.enrol(f"person {number}", rows, [0.9] * 3, AT)
        for _ in range(given.times):
            began, worked = time.perf_counter(), time.process_time()
            found = find_operating_point(gallery, bundle, Wish(max_fmr=1e-3), calibrated_at=AT)
            gallery_menagerie(found)
            keep_calibration(gallery, found)
            wall.append(time.perf_counter() - began)
            processor.append(time.process_time() - worked)
    print(
        f"{given.people} people, {given.strangers} strangers x {given.pictures}: "
        f"{statistics.median(wall):.2f} s, of which the processor worked "
        f"{statistics.median(processor):.2f} s (medians of {given.times})"
    )


if __name__ == "__main__":
    main()
