"""How long one embedding takes, by runtime and precision, each against TFLite float16.

    python benchmarks/embed_latency.py [--runs 200]

One thread, one process, the graphs in turn, so that a drifting machine drifts for all. After a
warm-up it prints medians and the ratio to the same round's TFLite float16. Quote the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import limen
from limen.errors import RuntimeUnavailableError

WARM_UP = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    bundle = limen.open_bundle()
    crop = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), dtype=np.uint8)
    embedders = {}
    for graph in bundle.manifest.graphs:
        try:
            embedders[f"{graph.runtime} {graph.precision}"] = bundle.embedder(
                graph.runtime, graph.precision
            )
        except RuntimeUnavailableError as error:
            print(f"left out: {error}")
    times_ms: dict[str, list[float]] = {name: [] for name in embedders}
    for run in range(WARM_UP + runs):
        for name, embedder in embedders.items():
            started = time.perf_counter()
            embedder.embed(crop)
            if run >= WARM_UP:
                times_ms[name].append(1e3 * (time.perf_counter() - started))
    peer = times_ms["tflite float16"]
    for name, own in times_ms.items():
        ratio = statistics.median(a / b for a, b in zip(own, peer, strict=True))
        print(f"{name:16} median {statistics.median(own):6.2f} ms   {ratio:5.2f} x tflite float16")


if __name__ == "__main__":
    main()
