"""Ranges of a TFLite graph's activations from histograms: percentile and entropy.

The histograms and the search for a range are ONNX Runtime's, so that a method means the same for
both kinds of graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limen.export.activations import tflite_activations

BINS, QUANTISED_BINS = 2048, 128


def histogram_ranges(
    graph: bytes,
    names: Sequence[str],
    crops: NDArray[np.uint8],
    method: str,
    percentile: float,
) -> dict[str, tuple[float, float]]:
    """(low, high) for each named tensor, over all (n, px, px, 3) uint8 crops.

    method: 'percentile' leaves that share of the values inside; 'entropy' loses the least
    information to 8 bits.
    """
    from onnxruntime.quantization.calibrate import HistogramCollector

    collector = HistogramCollector(
        method=method,
        symmetric=False,
        num_bins=BINS if method == "percentile" else QUANTISED_BINS,
        num_quantized_bins=QUANTISED_BINS,
        percentile=percentile,
        scenario="same",
    )
    for activations in tflite_activations(graph, crops, names):
        collector.collect(activations)
    found = collector.compute_collection_result()
    return {name: (float(values[0]), float(values[1])) for name, values in found.items()}
