"""How well a search finds pictures of the query's class: the literature's four figures.

Precision@1 and recall@k as in Oh Song et al., CVPR 2016; R-precision and MAP@R as in Musgrave,
Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.uses.distances import Distance, scores_between
from limen.uses.embedding_set import EmbeddingsError, EmbeddingSet, unit_rows

_BLOCK = 256


@dataclass(frozen=True, slots=True)
class RetrievalFigures:
    """Means over queries. queries: rows whose class has another one; the rest only distract."""

    queries: int
    searched: int
    classes: int
    precision_at_1: float
    r_precision: float
    map_at_r: float
    recall_at: dict[int, float]


def retrieval_figures(
    found: EmbeddingSet,
    distance: Distance = Distance.COSINE,
    ranks: Sequence[int] = (1, 2, 4, 8),
) -> RetrievalFigures:
    """Search each labelled row among all the others. Ties go by row.

    With R others of the query's class: R-precision is the share of hits among the R nearest, MAP@R
    the mean over those R ranks of the precision at each rank that hits. recall@k: whether any of
    the k nearest hits. EmbeddingsError where no class has two rows.
    """
    labelled = found.labelled()
    rows = labelled.embeddings
    if distance is Distance.COSINE:
        rows = unit_rows(rows)
    others = np.bincount(labelled.label)[labelled.label] - 1
    queries = np.flatnonzero(others > 0)
    if not len(queries):
        raise EmbeddingsError("every class has one picture: there is nothing to be found again")
    deepest = int(min(len(rows) - 1, max(int(others.max()), *ranks)))
    sums = np.zeros(3)
    recall = dict.fromkeys(ranks, 0)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        scores = scores_between(rows[block], rows, distance)
        scores[np.arange(len(block)), block] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :deepest]
        hits = labelled.label[order] == labelled.label[block][:, None]
        sums += _sums(hits, others[block])
        for rank in ranks:
            recall[rank] += int(hits[:, :rank].any(axis=1).sum())
    first, precision, average = (float(value) / len(queries) for value in sums)
    return RetrievalFigures(
        queries=len(queries),
        searched=len(rows),
        classes=len(np.unique(labelled.label)),
        precision_at_1=first,
        r_precision=precision,
        map_at_r=average,
        recall_at={rank: count / len(queries) for rank, count in recall.items()},
    )


def _sums(hits: NDArray[np.bool_], others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over queries of Precision@1, R-precision and MAP@R. hits: (q, k), others: (q,) = R."""
    ranks = np.arange(1, hits.shape[1] + 1)
    within = hits & (ranks[None, :] <= others[:, None])
    precision = np.cumsum(within, axis=1) / ranks
    return np.array(
        [
            hits[:, 0].sum(),
            (within.sum(axis=1) / others).sum(),
            ((precision * within).sum(axis=1) / others).sum(),
        ]
    )
