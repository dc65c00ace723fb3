"""Scores from labelled embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64] | NDArray[np.float32]


def mated_and_non_mated(
    embeddings: NDArray[np.float32], identity: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine scores of all pairs of different samples.

    embeddings: (n, D), unit norm; identity: (n,). Returns the mated scores (m,) and the non-mated
    scores (k,), m + k = n (n - 1) / 2. Each pair counts once; no sample meets itself.
    """
    upper = np.triu_indices(len(embeddings), 1)
    scores = (embeddings @ embeddings.T)[upper]
    same = identity[upper[0]] == identity[upper[1]]
    return scores[same], scores[~same]
