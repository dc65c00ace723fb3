"""Comparisons that share a person: how much less they say than as many independent ones.

Comparisons of one stranger are alike: who resembles an enrolled person in one picture does so in
the next, and often resembles another enrolled person too. The design effect is the factor by which
that widens the variance of an error rate; comparisons divided by it are the effective ones (Kish,
Survey Sampling, 1965), and Clopper and Pearson's bound on effective counts is Korn and Graubard's
(Survey Methodology 24(2), 1998). The variance between people is what a bootstrap that draws whole
people converges to (`limen.calibration.bootstrap`); in closed form it costs one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.bounds import predicted_errors
from limen.calibration.cluster_prior import ClusterPrior
from limen.errors import CalibrationError

# A design effect seen on fewer strangers than these is raised to the one that these show.
MIN_STRANGERS = 5
MIN_TAIL = 0.05

# A cohort is no sample of the people who will come to this very door. The bound is widened by so
# much for that; how well it then holds for other people is measured in docs/calibration.md.
ALLOWANCE = 1.1


@dataclass(frozen=True, slots=True)
class Tail:
    """Evidence at every threshold of a tail, highest threshold first. All (k,), k >= 1.

    cut: the highest score that stays rejected, -inf where none does; false_matches: comparisons
    above it; strangers: different people among them; design_effect: >= 1; bound: the FMR that a
    test with as many new strangers stays within, `ALLOWANCE` included. The first entry accepts no comparison at all.
    """

    cut: NDArray[np.float64]
    false_matches: NDArray[np.int64]
    strangers: NDArray[np.int64]
    design_effect: NDArray[np.float64]
    bound: NDArray[np.float64]

    def lowest_within(self, max_fmr: float) -> int | None:
        """The index of the lowest threshold such that it and all above keep to `max_fmr`."""
        beyond = np.flatnonzero(self.bound > max_fmr)
        last = (int(beyond[0]) if len(beyond) else len(self.bound)) - 1
        return last if last >= 0 else None


def tail_evidence(
    scores: NDArray[np.floating],
    stranger: NDArray[np.int64],
    *,
    confidence: float,
    max_rate: float,
    prior: ClusterPrior | None = None,
) -> Tail:
    """The evidence at all thresholds that accept at most about `max_rate` of the comparisons.

    scores: (n,) finite, non-mated; stranger: (n,), whose probe it was, any numbers; prior: what
    design effect galleries of this size have, where a cohort tells.
    """
    trials = len(scores)
    if trials == 0 or stranger.shape != scores.shape:
        raise CalibrationError("expected non-mated scores, each with the stranger it is of")
    values = np.asarray(scores, np.float64)
    person, comparisons = numbered(stranger)
    # More than asked for, so that the first few strangers are always among them.
    kept = min(trials, int(np.ceil(trials * max(max_rate, MIN_TAIL))) + 1)
    top = np.argpartition(-values, kept - 1)[:kept] if kept < trials else np.arange(trials)
    top = top[np.argsort(-values[top], kind="stable")]
    ordered, who = values[top], person[top]
    nth = _occurrence(who)  # 1 for a stranger's first false match, 2 for the second …
    squares = np.concatenate([[0], np.cumsum(2 * nth - 1)])  # sum over strangers of hits squared
    crossed = np.concatenate([[0], np.cumsum(comparisons[who])])
    strangers = np.concatenate([[0], np.cumsum(nth == 1)])
    false_matches = np.arange(kept + 1)
    effect = _design_effect(false_matches, squares, crossed, comparisons, trials)
    enough = int(np.searchsorted(strangers, MIN_STRANGERS))
    if enough <= kept:
        effect[:enough] = np.maximum(effect[:enough], effect[enough])
    else:  # so few people that each may as well decide as one
        effect = np.maximum(effect, trials / len(comparisons))
    if prior is not None:
        effect = prior.weighed(effect, strangers, np.maximum(false_matches, 1) / trials)
    found = predicted_errors(false_matches / effect, confidence)
    bound = np.minimum(1.0, ALLOWANCE * found * effect / trials)
    cut = np.append(ordered, -np.inf) if kept == trials else ordered
    # Equal scores are accepted together: only the first rank of a tie is a threshold.
    first = np.ones(len(cut), np.bool_)
    first[1:] = cut[1:] != cut[:-1]
    ranks = np.flatnonzero(first)
    return Tail(cut[ranks], false_matches[ranks], strangers[ranks], effect[ranks], bound[ranks])


def design_effect(hit: NDArray[np.bool_], person: NDArray[np.int64]) -> float:
    """How many comparisons say as much as one independent one; 1 or more.

    hit: (n,), whether each comparison was an error; person: (n,), whom they share.
    """
    number, comparisons = numbered(person)
    hits = np.bincount(number, hit, len(comparisons)).astype(np.int64)
    return design_effect_of_counts(hits, comparisons)


def design_effect_of_counts(hits: NDArray[np.int64], comparisons: NDArray[np.int64]) -> float:
    """The same from the errors and the comparisons of each person, both (people,)."""
    effect = _design_effect(
        np.array([hits.sum()]),
        np.array([(hits**2).sum()]),
        np.array([(hits * comparisons).sum()]),
        comparisons,
        int(comparisons.sum()),
    )
    return float(effect[0])


def numbered(person: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """People numbered from 0, (n,), and how many comparisons each has, (people,)."""
    shifted = person - person.min()
    if int(shifted.max()) > 4 * len(person):  # numbers far apart: a table of them would be large
        shifted = np.unique(person, return_inverse=True)[1]
    counts = np.bincount(shifted)
    present = counts > 0
    return (np.cumsum(present) - 1)[shifted], counts[present]


def _occurrence(who: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each element, how many equal ones stand before it, plus one."""
    order = np.argsort(who, kind="stable")
    grouped = who[order]
    starts = np.flatnonzero(np.concatenate([[True], grouped[1:] != grouped[:-1]]))
    lengths = np.diff(np.append(starts, len(who)))
    nth = np.empty(len(who), np.int64)
    nth[order] = np.arange(len(who)) - np.repeat(starts, lengths) + 1
    return nth


def _design_effect(
    hits: NDArray[np.int64],
    squares: NDArray[np.int64],
    crossed: NDArray[np.int64],
    comparisons: NDArray[np.int64],
    trials: int,
) -> NDArray[np.float64]:
    """Variance between people over the binomial one; never below 1; 1 where nothing was found.

    squares: sum of hits squared over people; crossed: sum of hits times comparisons.
    """
    people = len(comparisons)
    rate = hits / trials
    between = squares - 2 * rate * crossed + rate**2 * float((comparisons.astype(float) ** 2).sum())
    binomial = trials * rate * (1 - rate)
    small_sample = people / (people - 1) if people > 1 else 1.0
    effect = np.ones(len(hits), np.float64)
    some = binomial > 0
    effect[some] = small_sample * between[some] / binomial[some]
    return np.maximum(effect, 1.0)
