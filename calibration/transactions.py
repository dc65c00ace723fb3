"""Error rates of a whole transaction: a visit with its frames, votes and failures to acquire.

FAR and FRR as in ISO/IEC 19795-1: they include transactions in which nothing could be acquired,
which FMR and FNMR of single comparisons leave out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.errors import CalibrationError


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


@dataclass(frozen=True, slots=True)
class FarBracket:
    """FAR of a visit, between two assumptions about its frames.

    apart: frames as different as separate pictures of one stranger, so that votes must agree;
    alike: all frames decide as one, so that votes guard against nothing. A real visit lies between.
    visits: strangers who had enough pictures to play one.
    """

    apart: float
    alike: float
    visits: int


def far_bracket(
    scores: NDArray[np.float32],
    stranger: NDArray[np.int64],
    threshold: float,
    rule: Votes,
    failures_to_acquire: float = 0.0,
) -> FarBracket | None:
    """FAR of strangers' visits, of which each is `window` pictures of one stranger.

    scores: (probes, subjects), non-mated; stranger: (probes,). None where nobody has as many
    pictures as there must be votes. Of those with fewer than `window`, all are used.
    """
    people, counts = np.unique(stranger, return_counts=True)
    long_enough = people[counts >= rule.votes]
    if len(long_enough) == 0:
        return None
    opened = 0
    for person in long_enough:
        visit = scores[stranger == person][: rule.window]
        seen = np.ones(len(visit), np.bool_)
        opened += opens(visit, seen, threshold, rule) is not None
    alike = float(np.mean(scores.max(1) >= threshold))
    acquired = 1 - failures_to_acquire
    return FarBracket(opened / len(long_enough) * acquired, alike * acquired, len(long_enough))
