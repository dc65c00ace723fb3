"""Error rates of a whole transaction: a visit with its frames, votes and failures to acquire.

FAR and FRR as in ISO/IEC 19795-1: they include transactions in which nothing could be acquired,
which FMR and FNMR of single comparisons leave out. A door looks many times within its time limit,
so FAR is not FMR: votes lower it, more looks and more people enrolled raise it. How much depends on
how alike the looks of one visit are, which pictures of strangers do not say. Both ends are told,
looks that decide as one and looks as different as separate pictures, and the worse one counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.bounds import clopper_pearson
from limen.calibration.clusters import design_effect
from limen.errors import CalibrationError

DRAWS = 400
NOBODY = -1


def transaction_rates(
    far_comparison: float, frr_comparison: float, failures_to_acquire: float
) -> tuple[float, float]:
    """FAR = FMR (1 - FTA) and FRR = FTA + FNMR (1 - FTA), for one attempt a transaction.

    All from 0 to 1. ISO/IEC 19795-1, 8.3.
    """
    rates = (far_comparison, frr_comparison, failures_to_acquire)
    if not all(0 <= rate <= 1 for rate in rates):
        raise CalibrationError(f"expected rates from 0 to 1, found {rates}")
    acquired = 1 - failures_to_acquire
    return far_comparison * acquired, failures_to_acquire + frr_comparison * acquired


@dataclass(frozen=True, slots=True)
class Votes:
    """A door that opens on `votes` matches of one subject among `window` decisions in a row."""

    votes: int
    window: int

    def __post_init__(self) -> None:
        if not 1 <= self.votes <= self.window:
            raise CalibrationError(f"expected 1 <= votes <= window, found {self}")


@dataclass(frozen=True, slots=True)
class TransactionRule:
    """What a visit is: votes, and decisions at `decisions_per_s` until `time_limit_s` is over."""

    votes: Votes = Votes(3, 5)
    time_limit_s: float = 10.0
    decisions_per_s: float = 5.0

    def __post_init__(self) -> None:
        if not (0 < self.time_limit_s <= 120 and 0 < self.decisions_per_s <= 100):
            raise CalibrationError(
                "expected a time limit of up to 120 s and up to 100 decisions a second, found "
                f"{self.time_limit_s} and {self.decisions_per_s}"
            )

    @property
    def decisions(self) -> int:
        """How many decisions a visit has; never fewer than the votes need."""
        return max(self.votes.votes, int(self.time_limit_s * self.decisions_per_s))


@dataclass(frozen=True, slots=True)
class Chance:
    """How often a visit ends one way.

    rate: what is reported, the higher of `alike` (all looks of a visit decide as one) and `apart`
    (each look as different as a separate picture); interval: of `rate`, people counted, not looks;
    people: how many it rests on; visits: whole visits that were played, 0 where looks were drawn.
    """

    rate: float
    interval: tuple[float, float]
    alike: float
    apart: float
    people: int
    visits: int = 0


def opens(
    scores: NDArray[np.float32],
    acquired: NDArray[np.bool_],
    threshold: float,
    rule: Votes,
) -> int | None:
    """The subject for whom a visit opens the door, or None.

    scores: (frames, subjects); acquired: (frames,), False for a failure to acquire. A frame votes
    for its best subject where that one matches, as the recogniser decides; ties go to the first.
    """
    if len(scores) == 0:
        return None
    best = scores.argmax(1)
    matched = (scores[np.arange(len(scores)), best] >= threshold) & acquired
    for end in range(len(scores)):
        if not matched[end]:
            continue
        window = slice(max(0, end - rule.window + 1), end + 1)
        if int((matched[window] & (best[window] == best[end])).sum()) >= rule.votes:
            return int(best[end])
    return None


def chance_of_opening(
    voted: NDArray[np.int64], rule: TransactionRule, rng: np.random.Generator, draws: int = DRAWS
) -> float:
    """How likely a visit opens whose looks are drawn, each anew, from a person's separate pictures.

    voted: (k,), the subject each picture matched, `NOBODY` where none. 0 where no picture matched,
    1 where all matched the same subject.
    """
    subjects = np.unique(voted[voted != NOBODY])
    if len(subjects) == 0:
        return 0.0
    if len(subjects) == 1 and (voted == subjects[0]).all():
        return 1.0
    looks = voted[rng.integers(0, len(voted), (draws, rule.decisions))]
    opened = np.zeros(draws, np.bool_)
    for subject in subjects:
        counted = np.cumsum(np.pad(looks == subject, ((0, 0), (rule.votes.window, 0))), axis=1)
        in_window = counted[:, rule.votes.window :] - counted[:, : -rule.votes.window]
        opened |= (in_window >= rule.votes.votes).any(1)
    return float(opened.mean())


def false_acceptance(
    best: NDArray[np.float32],
    best_subject: NDArray[np.int64],
    stranger: NDArray[np.int64],
    threshold: float,
    rule: TransactionRule,
    confidence: float,
    rng: np.random.Generator,
    failures_to_acquire: float = 0.0,
) -> Chance | None:
    """FAR: how often a stranger's visit opens the door for anybody; None without strangers.

    best, best_subject, stranger: (q,), each probe's highest score, whose it was, and whose probe.
    """
    if len(best) == 0:
        return None
    voted = np.where(best >= threshold, best_subject, NOBODY)
    return _chance(voted, stranger, rule, confidence, rng, 1 - failures_to_acquire, refused=False)


def false_rejection(
    mated: NDArray[np.float32],
    subject: NDArray[np.int64],
    threshold: float,
    rule: TransactionRule,
    confidence: float,
    rng: np.random.Generator,
) -> Chance | None:
    """FRR from single mated scores: how often an enrolled person's visit does not open.

    mated, subject: (m,). Failures to acquire are not in it: pictures that were enrolled were
    acquired. None without mated scores.
    """
    if len(mated) == 0:
        return None
    voted = np.where(mated >= threshold, 0, NOBODY)
    return _chance(voted, subject, rule, confidence, rng, 1.0, refused=True)


def rejected_visits(
    opened: NDArray[np.bool_], subject: NDArray[np.int64], confidence: float
) -> Chance | None:
    """FRR of visits that took place: opened: (v,), whether the door opened for the right person.

    subject: (v,), whose visit. Visits without one acquired frame are among them, as ISO/IEC
    19795-1 wants it. Visits of one person are alike: the interval counts effective ones.
    """
    if len(opened) == 0:
        return None
    missed = ~opened
    rate = float(missed.mean())
    trials = len(missed) / design_effect(missed, subject)
    interval = clopper_pearson(rate * trials, trials, confidence)
    return Chance(rate, interval, rate, rate, len(np.unique(subject)), len(opened))


def _chance(
    voted: NDArray[np.int64],
    person: NDArray[np.int64],
    rule: TransactionRule,
    confidence: float,
    rng: np.random.Generator,
    acquired: float,
    *,
    refused: bool,
) -> Chance:
    people, number = np.unique(person, return_inverse=True)
    alike = np.bincount(number, voted != NOBODY) / np.bincount(number)
    apart = np.zeros(len(people))
    rows = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    for index in np.flatnonzero(alike):
        apart[index] = chance_of_opening(voted[rows[index]], rule, rng)
    ends = [float(each.mean()) * acquired for each in (alike, apart)]
    if refused:
        ends = [1 - end for end in ends]
    rate = max(ends)
    # A person's chance varies less than a single visit does, so whole people may be counted as one
    # trial each: the interval is then rather too wide.
    interval = clopper_pearson(rate * len(people), len(people), confidence)
    return Chance(rate, interval, ends[0], ends[1], len(people))
