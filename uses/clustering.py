"""Grouping embeddings: agglomerative clustering and HDBSCAN, cut where a labelled set says.

Both are scikit-learn's. The score at which groups are cut is found by clustering people or things
that no folder here knows, by the very same procedure, and keeping the cut whose B-cubed F is best:
what a cut does to groups is not what a threshold does to pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from limen.errors import ConfigError
from limen.uses.cluster_figures import b_cubed
from limen.uses.strangers import Strangers

# scikit-learn holds all distances of agglomerative clustering in float64: 1.2 GB for these.
MAX_AGGLOMERATIVE = 12_000
MAX_HDBSCAN = 200_000
_CUTS = 100


class Method(StrEnum):
    """How groups are found."""

    AGGLOMERATIVE = "agglomerative"
    HDBSCAN = "hdbscan"


@dataclass(frozen=True, slots=True)
class Cut:
    """score: the mean cosine from which on two groups are one; what says so, and how good it was.

    b_cubed_f: on the labelled set the cut was found with; None for a cut that was named.
    """

    score: float
    basis: str
    b_cubed_f: float | None = None


def cluster(
    unit: NDArray[np.float32], cut: float, method: Method = Method.AGGLOMERATIVE
) -> NDArray[np.int64]:
    """A number for each row, (n, D) unit norm to (n,), 0 for the largest group; singletons too.

    agglomerative: groups are joined while the mean cosine between them is `cut` or more (average
    linkage, UPGMA: Sokal and Michener, 1958). hdbscan: the densest groups of Campello, Moulavi and
    Sander, PAKDD 2013; those with a mean cosine of `cut` or more are then joined, and what is left
    over joins a group by the same rule or stays alone.
    ConfigError for more rows than the method's memory allows, or a cut outside -1 to 1.
    """
    if not -1 < cut <= 1:
        raise ConfigError(f"threshold: expected more than -1 and at most 1, found {cut}")
    if len(unit) == 1:
        return np.zeros(1, np.int64)
    _check_count(len(unit), method)
    if method is Method.AGGLOMERATIVE:
        return by_size(_cut_tree(_tree(unit), len(unit), np.array([1 - cut]))[0])
    return by_size(_joined(unit, _densest(unit), cut))


def best_cut(strangers: Strangers, method: Method = Method.AGGLOMERATIVE) -> Cut:
    """The cut with which clustering `strangers` by `method` has the best B-cubed F.

    Of cuts that are equally good, the middle one. ConfigError where they are too many.
    """
    from limen.uses.embedding_set import unit_rows

    chosen = strangers.thinned()
    unit, subject = unit_rows(chosen.embeddings), chosen.subject
    _check_count(len(unit), method)
    basis = f"the best for {len(np.unique(subject)):,} of {strangers.where}, clustered alike"
    if method is Method.AGGLOMERATIVE:
        tree = _tree(unit)
        heights = np.linspace(0, min(1.0, float(tree[1].max())), _CUTS + 1)[1:]
        found = [b_cubed(number, subject).f for number in _cut_tree(tree, len(unit), heights)]
        scores = 1 - heights
    else:
        scores = 1 - np.linspace(0, 1, _CUTS + 1)[1:]
        dense = _densest(unit)
        found = [b_cubed(_joined(unit, dense, float(cut)), subject).f for cut in scores]
    figures = np.array(found)
    best = np.flatnonzero(figures >= figures.max() - 1e-12)
    middle = int(best[len(best) // 2])
    return Cut(float(scores[middle]), basis, float(figures[middle]))


_Tree = tuple[NDArray[np.int64], NDArray[np.float64]]


def _tree(unit: NDArray[np.float32]) -> _Tree:
    """Who is joined with whom, (n - 1, 2), and at which mean cosine distance, (n - 1,), rising."""
    from sklearn.cluster import AgglomerativeClustering

    product = unit.astype(np.float64)
    distances = np.clip(1 - product @ product.T, 0, 2)
    np.fill_diagonal(distances, 0)
    fitted = AgglomerativeClustering(
        n_clusters=None,
        distance_threshold=0,
        metric="precomputed",
        linkage="average",
        compute_full_tree=True,
    ).fit(distances)
    return np.asarray(fitted.children_, np.int64), np.asarray(fitted.distances_, np.float64)


def _cut_tree(tree: _Tree, count: int, heights: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """The groups at each height, rising: joins of at most that distance are made."""
    children, distances = tree
    parent = np.arange(2 * count - 1)
    found, made = [], 0
    for height in heights:
        while made < len(children) and distances[made] <= height + 1e-12:
            parent[children[made]] = count + made
            made += 1
        root = parent.copy()
        for node in range(count + made - 1, -1, -1):  # a join's number is above its parts'
            root[node] = root[parent[node]]
        found.append(np.unique(root[:count], return_inverse=True)[1].astype(np.int64))
    return found


def _densest(unit: NDArray[np.float32]) -> NDArray[np.int64]:
    """HDBSCAN's groups of two or more, (n,) from 0; -1 for what it calls noise.

    Its own `cluster_selection_epsilon` is left at 0: a radius joins groups by their nearest
    members, so one picture between two people joins them.
    """
    from sklearn.cluster import HDBSCAN

    model = HDBSCAN(min_cluster_size=2, min_samples=1, metric="euclidean", copy=True)
    return np.asarray(model.fit_predict(unit.astype(np.float64)), np.int64)


def _joined(unit: NDArray[np.float32], dense: NDArray[np.int64], cut: float) -> NDArray[np.int64]:
    """Groups joined while the mean cosine between two is `cut` or more; the rest assigned alike."""
    groups = int(dense.max()) + 1
    number = dense.copy()
    if groups:
        inside = dense >= 0
        sizes = np.bincount(dense[inside]).astype(np.float64)
        sums = np.zeros((groups, unit.shape[1]))
        np.add.at(sums, dense[inside], unit[inside].astype(np.float64))
        into = np.arange(groups)
        means = sums / sizes[:, None]
        scores = means @ means.T
        np.fill_diagonal(scores, -np.inf)
        while groups > 1 and scores.max() >= cut:
            one, other = sorted(int(i) for i in np.unravel_index(scores.argmax(), scores.shape))
            share = sizes[[one, other]] / sizes[[one, other]].sum()
            row = share[0] * scores[one] + share[1] * scores[other]
            row[[one, other]] = -np.inf
            scores[one], scores[:, one] = row, row
            scores[other], scores[:, other] = -np.inf, -np.inf
            sizes[one] += sizes[other]
            into[into == other] = one
        number[inside] = into[dense[inside]]
        if not inside.all():
            kept = np.unique(number[inside], return_inverse=True)[1]
            number[inside] = kept
            number[~inside] = assign(unit[~inside], unit[inside], kept, cut)
    alone = number < 0
    number[alone] = int(number.max()) + 1 + np.arange(int(alone.sum()))
    return number


def by_size(number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups numbered from 0, the largest first; among equals, the one whose row comes first."""
    _, first, plain, sizes = np.unique(
        number, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -sizes))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[plain]


def assign(
    new: NDArray[np.float32],
    known: NDArray[np.float32],
    number: NDArray[np.int64],
    cut: float,
) -> NDArray[np.int64]:
    """New rows to the groups that are there, (m,): the one with the highest mean cosine, or -1.

    new: (m, D), known: (n, D), unit norm; number: (n,), the groups of `known`, from 0. A row joins
    where that mean is `cut` or more, as average linkage would join it. No group is changed.
    """
    groups = int(number.max()) + 1
    sums = np.zeros((groups, known.shape[1]))
    np.add.at(sums, number, known.astype(np.float64))
    means = sums / np.bincount(number, minlength=groups)[:, None]
    scores = new.astype(np.float64) @ means.T
    best = np.argmax(scores, axis=1)
    joined = scores[np.arange(len(new)), best] >= cut
    return np.where(joined, best, -1).astype(np.int64)


def _check_count(count: int, method: Method) -> None:
    limit = MAX_AGGLOMERATIVE if method is Method.AGGLOMERATIVE else MAX_HDBSCAN
    if count > limit:
        other = (
            ": --method hdbscan takes more, or cluster a part and --add the rest"
            if method is Method.AGGLOMERATIVE
            else ": cluster a part and --add the rest"
        )
        raise ConfigError(f"{count:,} to be grouped, {method} takes at most {limit:,}{other}")
