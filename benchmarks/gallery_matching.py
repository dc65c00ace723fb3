"""How long the search among enrolled templates takes, against embedding one face.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/gallery_matching.py [--runs 50]

One thread, random unit vectors of 128 values. After a warm-up each round embeds a crop and searches
each gallery (`--templates 1000 100000`) in turn, so that a drifting machine drifts for all. Prints
medians, the ratio of the search to the same round's int8 embedding, and whether the top five are
those of a float64 search over everybody. Quote the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import limen
from limen.device.matching import ExactSearch

WARM_UP = 5
TOP = 5


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    values = rng.standard_normal((rows, 128), np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--templates", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    embedder = limen.open_bundle().embedder(precision="int8")
    crop = rng.integers(0, 256, (1, 112, 112, 3), dtype=np.uint8)
    galleries = {size: unit(rng, size) for size in arguments.templates}
    searches = {size: ExactSearch(rows) for size, rows in galleries.items()}
    embed_s: list[float] = []
    search_s: dict[int, list[float]] = {size: [] for size in searches}
    differ = dict.fromkeys(searches, 0)
    for run in range(WARM_UP + arguments.runs):
        probe = unit(rng, 1)[0]
        started = time.perf_counter()
        embedder.embed(crop)
        took = time.perf_counter() - started
        if run >= WARM_UP:
            embed_s.append(took)
        for size, search in searches.items():
            started = time.perf_counter()
            rows, _ = search.best(probe, TOP)
            took = time.perf_counter() - started
            if run >= WARM_UP:
                search_s[size].append(took)
            if run % 10 == 0:
                true = galleries[size].astype(np.float64) @ probe.astype(np.float64)
                differ[size] += rows.tolist() != np.argsort(-true, kind="stable")[:TOP].tolist()
    print(f"one int8 embedding      median {1e3 * statistics.median(embed_s):8.3f} ms")
    for size, own in search_s.items():
        ratio = statistics.median(a / b for a, b in zip(own, embed_s, strict=True))
        print(
            f"top {TOP} of {size:>9,}    median {1e3 * statistics.median(own):8.3f} ms   "
            f"{ratio:6.3f} x an embedding   unlike float64: {differ[size]}"
        )


if __name__ == "__main__":
    main()
