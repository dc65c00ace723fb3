"""How long an enrolment's commit takes, against SQLite's own single insert with full sync.

    python benchmarks/gallery_commit.py [--runs 100] [--enrolled 1000] [--folder .]

The folder's disk decides: run it on the board's card. Rounds alternate, after a warm-up; medians and
the ratio are printed. Also: how long opening the gallery and its references takes, a removal with
its VACUUM, and a backup.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from limen.device.gallery import Gallery
from limen.device.gallery.records import Enrolment

WARM_UP = 10
AT = "2026-11-01T12:00:00+00:00"
MODEL_ID = "benchmark"


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    values = rng.standard_normal((rows, 128), np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--enrolled", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, default=Path())
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "gallery.db"
        plain = sqlite3.connect(Path(folder) / "plain.db", isolation_level=None)
        plain.execute("PRAGMA journal_mode = WAL")
        plain.execute("PRAGMA synchronous = FULL")
        plain.execute("CREATE TABLE reference (id INTEGER PRIMARY KEY, embedding BLOB)")
        with Gallery.open(path, model_id=MODEL_ID, create=True) as gallery:
            rows = unit(rng, arguments.enrolled)
            gallery.enrol_all(
                [Enrolment(f"p{n}", rows[n : n + 1], [0.5], AT) for n in range(len(rows))]
            )
            own_s, plain_s = [], []
            for run in range(WARM_UP + arguments.runs):
                one = unit(rng, 5)
                own = seconds(lambda: gallery.enrol(f"n{run}", one, [0.5] * 5, AT))  # noqa: B023
                insert = ("INSERT INTO reference (embedding) VALUES (?)", (one[0].tobytes(),))
                other = seconds(lambda: plain.execute(*insert))  # noqa: B023
                if run >= WARM_UP:
                    own_s.append(own)
                    plain_s.append(other)
            ratio = statistics.median(a / b for a, b in zip(own_s, plain_s, strict=True))
            print(f"enrolling five shots    median {1e3 * statistics.median(own_s):8.2f} ms")
            print(f"SQLite's single insert  median {1e3 * statistics.median(plain_s):8.2f} ms")
            print(f"ratio                   median {ratio:8.2f}")
            print(
                f"a removal, with VACUUM         {1e3 * seconds(lambda: gallery.remove('n1')):8.2f} ms"
            )
            copy = Path(folder) / "copy.db"
            print(
                f"a backup                       {1e3 * seconds(lambda: gallery.back_up(copy)):8.2f} ms"
            )
        plain.close()
        gallery = Gallery.open(path)
        print(f"all references opened          {1e3 * seconds(gallery.references):8.2f} ms")
        gallery.close()
        print(
            f"the gallery opened             {1e3 * seconds(lambda: Gallery.open(path).close()):8.2f} ms"
        )


if __name__ == "__main__":
    main()
