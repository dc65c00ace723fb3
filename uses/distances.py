"""Distances between embeddings, and the nearest ones, exactly.

A score is a similarity, as everywhere in limen: the cosine, or the negative of a distance.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from limen.uses.embedding_set import EmbeddingsError, unit_rows

# Unit roundoff of float32.
_ROUNDOFF = 2.0**-24
_BLOCK_ROWS = 16_384
_CACHED_VALUES = 2**16


class Distance(StrEnum):
    """How two embeddings are compared."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"


class References:
    """Embeddings made ready to be searched: (n, D) float32."""

    def __init__(self, embeddings: NDArray[np.float32], distance: Distance) -> None:
        """EmbeddingsError for a row without direction, where the distance is the cosine."""
        cosine = distance is Distance.COSINE
        self.distance = distance
        self.rows = np.ascontiguousarray(unit_rows(embeddings) if cosine else embeddings)
        self._squares = (
            np.einsum("nd,nd->n", self.rows, self.rows) if distance is Distance.EUCLIDEAN else None
        )

    def nearest(
        self, query: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows (k,) and scores (k,) of the `count` nearest, nearest first, ties by row.

        query: (D,). One float32 product picks whoever could be among the nearest within its
        rounding error; those are compared in float64. EmbeddingsError for another size.
        """
        if query.shape != (self.rows.shape[1],):
            raise EmbeddingsError(
                f"the query has {query.shape[-1]} values, the index {self.rows.shape[1]}: they are "
                "of different models"
            )
        if self.distance is Distance.COSINE:
            query = unit_rows(query[None])[0]
        count = min(count, len(self.rows))
        near = self._candidates(query, count)
        scores = scores_between(query[None], self.rows[near], self.distance)[0]
        order = np.argsort(-scores, kind="stable")[:count]
        return near[order], scores[order]

    def _candidates(self, query: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        if count >= len(self.rows):
            return np.arange(len(self.rows))
        if self.distance is Distance.MANHATTAN:
            rough = -_city_blocks(query, self.rows)
            last = np.partition(rough, len(rough) - count)[len(rough) - count]
            # A sum of terms of one sign is off by a share of itself, in any order.
            return np.flatnonzero(rough >= last * (1 + 3 * (self.rows.shape[1] + 2) * _ROUNDOFF))
        rough = self.rows @ query
        if self._squares is not None:
            rough = 2 * rough - self._squares
        # Bound of the error of float32 sums in any order (Higham, Accuracy and Stability of
        # Numerical Algorithms, 2002, section 3.1), twice over: for the last and for the candidate.
        largest = (
            1.0 if self._squares is None else float(self._squares.max()) + float(query @ query)
        )
        error = 4 * (self.rows.shape[1] + 2) * _ROUNDOFF * largest
        last = np.partition(rough, len(rough) - count)[len(rough) - count]
        return np.flatnonzero(rough >= last - 2 * error)


def _city_blocks(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Manhattan distances (n,) in float32, a block that fits into a cache at a time."""
    found = np.empty(len(rows), np.float32)
    step = max(1, _CACHED_VALUES // rows.shape[1])
    difference = np.empty((min(step, len(rows)), rows.shape[1]), np.float32)
    ones = np.ones(rows.shape[1], np.float32)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        part = difference[: len(block)]
        np.subtract(block, query, out=part)
        np.abs(part, out=part)
        np.matmul(part, ones, out=found[start : start + len(block)])
    return found


def scores_between(
    one: NDArray[np.float32], other: NDArray[np.float32], distance: Distance
) -> NDArray[np.float64]:
    """Scores of all pairs, (n, D) and (m, D) to (n, m) float64; higher is more alike.

    The cosine expects rows of unit norm.
    """
    if distance is Distance.COSINE:
        return one.astype(np.float64) @ other.astype(np.float64).T
    metric = "euclidean" if distance is Distance.EUCLIDEAN else "cityblock"
    scores = np.empty((len(one), len(other)))
    for start in range(0, len(other), _BLOCK_ROWS):
        block = other[start : start + _BLOCK_ROWS]
        scores[:, start : start + len(block)] = -cdist(one, block, metric)
    return scores
