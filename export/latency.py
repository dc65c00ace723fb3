"""How long one embedding takes, by graph and threads, on the exporting machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from limen.embedder import Embedder
from limen.export.graphs import BuiltGraph
from limen.gate_results import Latency

WARM_UP = 3


def measure_latency(
    graphs: Sequence[BuiltGraph],
    make: Callable[[BuiltGraph, int], Embedder],
    px: int,
    threads: Sequence[int],
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, tuple[Latency, ...]]:
    """Median milliseconds of one crop for each graph and number of threads.

    make: opens a graph with so many threads. The graphs take turns, so that a machine that slows
    down slows all of them; what else runs on it is in the figures all the same.
    """
    crop = np.random.default_rng(0).integers(0, 256, (1, px, px, 3), dtype=np.uint8)
    found: dict[str, list[Latency]] = {graph.path: [] for graph in graphs}
    for count in sorted(threads):
        embedders = {graph.path: make(graph, count) for graph in graphs}
        times: dict[str, list[float]] = {path: [] for path in embedders}
        for run in range(WARM_UP + runs):
            for path, embedder in embedders.items():
                started = clock()
                embedder.embed(crop)
                if run >= WARM_UP:
                    times[path].append(1e3 * (clock() - started))
        for path, own in times.items():
            median = round(statistics.median(own), 3)
            found[path].append(Latency(threads=count, median_ms=median))
    return {path: tuple(rows) for path, rows in found.items()}
