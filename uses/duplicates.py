"""Pictures that are there twice: the same bytes, or embeddings closer than a score."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from limen.errors import ConfigError
from limen.uses.embedding_set import EmbeddingSet

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Rows that are chained by scores of at least the one asked for; lowest: of those, the least."""

    rows: tuple[int, ...]
    lowest: float


def near_duplicates(found: EmbeddingSet, near_score: float) -> list[DuplicateGroup]:
    """Groups of rows of different pictures whose cosine is `near_score` or more, largest first.

    A picture counts once: its nearest face, or all of it; pictures with another number of faces
    are no duplicates. ConfigError unless 0 < near_score <= 1.
    """
    if not 0 < near_score <= 1:
        raise ConfigError(f"near score: expected more than 0 and at most 1, found {near_score}")
    rows = np.arange(len(found)) if found.nearest is None else np.flatnonzero(found.nearest)
    unit = found.unit()[rows]
    counts = Counter(found.name)
    parts = np.array([counts[found.name[row]] for row in rows])
    # Equal rows may multiply to a little less than one.
    bar = min(near_score, 1 - 2e-6)
    left, right, scores = [], [], []
    for start in range(0, len(rows), _BLOCK):
        block = unit[start : start + _BLOCK] @ unit[start:].T
        one, other = np.nonzero(block >= bar)
        later = (other > one) & (parts[one + start] == parts[other + start])
        left.append(one[later] + start)
        right.append(other[later] + start)
        scores.append(block[one[later], other[later]])
    one, other = np.concatenate(left), np.concatenate(right)
    score = np.concatenate(scores)
    links = coo_array((np.ones(len(one), np.int8), (one, other)), (len(rows), len(rows)))
    _, component = connected_components(links, directed=False)
    lowest = np.full(int(component.max()) + 1, np.inf)
    np.minimum.at(lowest, component[one], score)
    sizes = np.bincount(component)
    groups = [
        DuplicateGroup(
            tuple(int(row) for row in rows[component == number]), min(1.0, float(lowest[number]))
        )
        for number in np.flatnonzero(sizes > 1)
    ]
    return sorted(groups, key=lambda group: (-len(group.rows), group.rows))
