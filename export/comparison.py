"""A graph against its reference in verification terms, on the same crops of the same people.

FNMR at a fixed FMR, each network at its own threshold, with an interval from resampling subjects;
how far scores moved; whose nearest neighbour changed. Subjects are resampled, not pairs, because
pairs share pictures and people (ISO/IEC 19795-1, annex on variance; Bolle et al., "Error analysis
of pattern recognition systems: the subsets bootstrap", CVIU 93(1), 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from limen.gate_results import FnmrChange, ScoreDrift

FMRS = (1e-2, 1e-3, 1e-4)
# Fewer false matches than this, expected at the threshold, and the figure rests on single pairs.
LEAST_FALSE_MATCHES = 10
LEAST_SUBJECTS = 20
_KEPT_SHARE = 0.05  # of the non-mated scores, the highest: where a threshold can lie
_KEPT_LEAST = 2000


@dataclass(frozen=True)
class Pairs:
    """All pairs of n crops of known people.

    first, second: (k,) row numbers; subject: (n,) int, 0 … subjects - 1; mated: (k,) bool.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    subject: NDArray[np.int64]
    mated: NDArray[np.bool_]
    subjects: int

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines of all pairs, (k,), from (n, D) unit-norm embeddings."""
        return np.asarray((embeddings @ embeddings.T)[self.first, self.second], np.float32)


def pairs_of(identity: NDArray[np.int64]) -> Pairs | None:
    """All pairs of crops by identity, (n,); None unless there are pairs of both kinds.

    Crops of nobody known (identity below 0) take no part.
    """
    known = np.flatnonzero(identity >= 0)
    names, subject_of_known = np.unique(identity[known], return_inverse=True)
    upper = np.triu_indices(len(known), 1)
    first, second = known[upper[0]].astype(np.int32), known[upper[1]].astype(np.int32)
    mated = identity[first] == identity[second]
    if mated.all() or not mated.any():
        return None
    subject = np.full(len(identity), -1, np.int64)
    subject[known] = subject_of_known
    return Pairs(first, second, subject, mated, len(names))


class Ranked:
    """One network's scores, arranged so that a weighted FNMR at an FMR is quick to compute.

    A weight is given to each subject: 1 each for the plain figures, a resample's counts for the
    interval. A mated pair weighs as its subject, a non-mated pair as the product of both.
    """

    def __init__(self, pairs: Pairs, scores: NDArray[np.float32]) -> None:
        mated_scores, self._non_mated = scores[pairs.mated], scores[~pairs.mated]
        order = np.argsort(mated_scores, kind="stable")
        self._mated = mated_scores[order]
        self._mated_subject = pairs.subject[pairs.first[pairs.mated]][order]
        self._first = pairs.subject[pairs.first[~pairs.mated]]
        self._second = pairs.subject[pairs.second[~pairs.mated]]
        kept = min(len(self._non_mated), max(_KEPT_LEAST, int(_KEPT_SHARE * len(self._non_mated))))
        top = np.argpartition(-self._non_mated, kept - 1)[:kept]
        self._top = top[np.argsort(-self._non_mated[top], kind="stable")]

    def fnmr_at_fmr(
        self, fmrs: Sequence[float], weight: NDArray[np.int64], non_mated_weight: int
    ) -> NDArray[np.float64]:
        """FNMR at each FMR, (len(fmrs),); not a number where the resample has no mated pair.

        weight: (subjects,); non_mated_weight: the sum of all non-mated pairs' weights.
        """
        mated = np.cumsum(weight[self._mated_subject])
        if mated[-1] == 0 or non_mated_weight == 0:
            return np.full(len(fmrs), np.nan)
        rejected = np.array(
            [self._highest_rejected(fmr, weight, non_mated_weight) for fmr in fmrs], np.float32
        )
        below = np.searchsorted(self._mated, rejected, side="right")
        shares = np.where(below > 0, mated[np.maximum(below - 1, 0)], 0) / mated[-1]
        return np.asarray(shares, np.float64)

    def _highest_rejected(self, fmr: float, weight: NDArray[np.int64], total: int) -> float:
        """The score of the first pair, from the top, that the FMR no longer allows to match.

        Whatever ties with it is rejected with it, as in `limen.calibration.rates`.
        """
        allowed = np.floor(fmr * total * (1 + 1e-12))
        for chosen in (self._top, self._all):
            cumulative = np.cumsum(weight[self._first[chosen]] * weight[self._second[chosen]])
            place = int(np.searchsorted(cumulative, allowed, side="right"))
            if place < len(chosen):
                return float(self._non_mated[chosen[place]])
        return float(self._non_mated.min())

    @cached_property
    def _all(self) -> NDArray[np.int64]:
        """The order of all scores, for a resample whose threshold lies below those kept."""
        return np.argsort(-self._non_mated, kind="stable")


def fnmr_changes(
    pairs: Pairs,
    reference: Ranked,
    graph: Ranked,
    rng: np.random.Generator,
    resamples: int,
    confidence: float,
) -> tuple[FnmrChange, ...]:
    """FNMR of both at each of FMRS, and their difference with its percentile interval.

    Both networks see the same resamples, so what they share cancels out.
    """
    sizes = np.bincount(pairs.subject[pairs.subject >= 0], minlength=pairs.subjects)
    ones = np.ones(pairs.subjects, np.int64)
    whole = _non_mated_weight(ones, sizes)
    before = reference.fnmr_at_fmr(FMRS, ones, whole)
    after = graph.fnmr_at_fmr(FMRS, ones, whole)
    drawn = []
    for _ in range(resamples):
        weight = np.bincount(
            rng.integers(0, pairs.subjects, pairs.subjects), minlength=pairs.subjects
        )
        total = _non_mated_weight(weight, sizes)
        drawn.append(
            graph.fnmr_at_fmr(FMRS, weight, total) - reference.fnmr_at_fmr(FMRS, weight, total)
        )
    usable = [row for row in drawn if np.isfinite(row).all()] or [after - before]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.stack(usable), [tail, 1 - tail], axis=0)
    non_mated = int((~pairs.mated).sum())
    enough = pairs.subjects >= LEAST_SUBJECTS
    return tuple(
        FnmrChange(
            fmr=fmr,
            reference=round(float(before[i]), 6),
            graph=round(float(after[i]), 6),
            change=round(float(after[i] - before[i]), 6),
            low=round(float(low[i]), 6),
            high=round(float(high[i]), 6),
            reliable=bool(enough and fmr * non_mated >= LEAST_FALSE_MATCHES),
        )
        for i, fmr in enumerate(FMRS)
    )


def fnmr_intervals(
    pairs: Pairs,
    network: Ranked,
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> dict[float, tuple[float, float, float]]:
    """FNMR of one network at each of FMRS, with the ends of its percentile interval over people."""
    sizes = np.bincount(pairs.subject[pairs.subject >= 0], minlength=pairs.subjects)
    ones = np.ones(pairs.subjects, np.int64)
    whole = network.fnmr_at_fmr(FMRS, ones, _non_mated_weight(ones, sizes))
    drawn = []
    for _ in range(resamples):
        people = rng.integers(0, pairs.subjects, pairs.subjects)
        weight = np.bincount(people, minlength=pairs.subjects)
        drawn.append(network.fnmr_at_fmr(FMRS, weight, _non_mated_weight(weight, sizes)))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.stack(drawn), [tail, 1 - tail], axis=0)
    return {fmr: (float(whole[i]), float(low[i]), float(high[i])) for i, fmr in enumerate(FMRS)}


def _non_mated_weight(weight: NDArray[np.int64], sizes: NDArray[np.int64]) -> int:
    """The weights of all pairs of different subjects, in closed form."""
    crops = weight * sizes
    return int((int(crops.sum()) ** 2 - int((crops**2).sum())) // 2)


def drift(graph: NDArray[np.float32], reference: NDArray[np.float32]) -> ScoreDrift:
    """How the scores of the same pairs differ, (k,) each, k >= 1."""
    difference = graph.astype(np.float64) - reference
    return ScoreDrift(
        mean=round(float(difference.mean()), 6),
        spread=round(float(difference.std()), 6),
        worst=round(float(np.abs(difference).max()), 6),
    )


def rank_1_changes(
    graph: NDArray[np.float32], reference: NDArray[np.float32], pairs: Pairs
) -> tuple[float, float]:
    """(changed, lost): shares of crops whose most similar other crop shows another person.

    graph, reference: (n, D) embeddings. `lost` counts those that were right with the reference,
    among crops whose person has another crop.
    """
    known = np.flatnonzero(pairs.subject >= 0)
    subject = pairs.subject[known]
    before = subject[_nearest(reference[known])]
    after = subject[_nearest(graph[known])]
    can_be_right = np.bincount(subject)[subject] > 1
    lost = (before == subject) & (after != subject)
    return float((before != after).mean()), float(lost[can_be_right].mean())


def _nearest(embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
    scores = embeddings @ embeddings.T
    np.fill_diagonal(scores, -np.inf)
    return np.asarray(scores.argmax(1), np.int64)
