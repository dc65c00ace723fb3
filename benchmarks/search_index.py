"""Indexing and searching: what an index costs beside the embedder, and a query over 100,000 rows.

    python benchmarks/search_index.py [--pictures 60]

Indexing is timed against finding, aligning and embedding the same decoded pictures, in turn; the
median of the rounds' ratios is told. Pictures are noise of 640 x 480, so no face is found: with
--domain whole every picture is embedded.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from limen.bundle import open_bundle
from limen.images import decode_picture, encode_jpeg
from limen.uses.distances import Distance, References
from limen.uses.indexing import bring_up_to_date, open_index
from limen.uses.sight import whole_sight

ROWS, SIZE = 100_000, 128


def indexing(pictures: int, rounds: int) -> None:
    sight = whole_sight(open_bundle())
    rng = np.random.default_rng(0)
    ratios, decoded_ratios, speeds = [], [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number in range(pictures):
            coarse = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            image = np.repeat(np.repeat(coarse, 10, 0), 10, 1)
            (folder / f"{number:04d}.jpg").write_bytes(encode_jpeg(image))
        contents = [path.read_bytes() for path in sorted(folder.iterdir())]
        images = [decode_picture(content) for content in contents]
        sight.embed(sight.see(images[0]))
        for _ in range(rounds):
            start = time.perf_counter()
            for image in images:
                sight.embed(sight.see(image))
            alone = time.perf_counter() - start
            start = time.perf_counter()
            for content in contents:
                sight.embed(sight.see(decode_picture(content)))
            decoding = time.perf_counter() - start
            index = folder.parent / f"{folder.name}.db"
            start = time.perf_counter()
            with open_index(folder, sight, index) as opened:
                bring_up_to_date(opened, folder, sight)
            whole = time.perf_counter() - start
            index.unlink()
            ratios.append(whole / alone)
            decoded_ratios.append(whole / decoding)
            speeds.append(pictures / whole)
    print(f"indexing {pictures} pictures: {statistics.median(speeds):.1f} a second, ", end="")
    print(f"{statistics.median(ratios):.2f} of embedding what is decoded already, ", end="")
    print(f"{statistics.median(decoded_ratios):.2f} of decoding and embedding one after another")


def querying(rounds: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(ROWS, SIZE)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for distance in Distance:
        references = References(rows, distance)
        times = []
        for row in range(rounds):
            query = rows[row] + rng.normal(scale=0.02, size=SIZE).astype(np.float32)
            start = time.perf_counter()
            found, _ = references.nearest(query, 10)
            times.append(time.perf_counter() - start)
            assert found[0] == row
        median, worst = statistics.median(times), max(times)
        print(
            f"{distance}: a query over {ROWS:,} x {SIZE} in {1000 * median:.1f} ms (median of "
            f"{rounds}, best {1000 * min(times):.1f}, worst {1000 * worst:.1f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    indexing(options.pictures, options.rounds)
    querying(4 * options.rounds)


if __name__ == "__main__":
    main()
