"""What the cohort itself says of comparisons that share a person, for galleries of a size.

At a small gallery a handful of strangers carry all false matches, and the design effect that such
a handful shows is mostly too small: whoever would have matched often was, mostly, not among them.
The cohort's own people stand in for the enrolled instead. As a gallery of N is a random draw of
people, the expected square of a stranger's false matches is known in closed form from each
stand-in alone and from all pairs of them, so no gallery needs to be drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.fusion import fuse

MAX_STAND_INS = 256
# Fewer people than these say nothing of how people differ.
MIN_PEOPLE = 20
# A cohort's word counts as much as this many strangers seen at the door itself.
WORTH_STRANGERS = 20

_MIN_HITS = 200
_MAX_RATE = 0.05
_RATES = 12
_DRAWN_GALLERIES = 64


@dataclass(frozen=True, slots=True)
class ClusterPrior:
    """The design effect that galleries of one size have, by error rate.

    rate: (k,), rising; effect: (k,), 1 or more.
    """

    rate: NDArray[np.float64]
    effect: NDArray[np.float64]

    def at(self, rate: NDArray[np.float64]) -> NDArray[np.float64]:
        """The effect at rates above 0, (n,); beyond the ends, that of the end."""
        return np.interp(np.log(rate), np.log(self.rate), self.effect)

    def weighed(
        self,
        effect: NDArray[np.float64],
        strangers: NDArray[np.int64],
        rate: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """The door's own effect, seen on so many strangers, together with this one. All (n,)."""
        return (strangers * effect + WORTH_STRANGERS * self.at(rate)) / (
            strangers + WORTH_STRANGERS
        )


@dataclass(frozen=True, slots=True)
class StandIns:
    """Strangers held against cohort people who stand in for the enrolled.

    scores: (p, t), -inf where a probe is of the stand-in; person: (p,), 0..people-1.
    """

    scores: NDArray[np.float32]
    person: NDArray[np.int64]

    def against_subjects(self, subjects: int) -> ClusterPrior | None:
        """Of the comparisons with each of so many people. None where the cohort is too small."""
        return _prior(self.scores, self.person, subjects)

    def against_the_best(self, subjects: int) -> ClusterPrior | None:
        """Of a probe's best score over so many people, as identification has it."""
        rng = np.random.default_rng(
            subjects
        )  # a draw that repeats: the same gallery, the same point
        stand_ins = self.scores.shape[1]
        best = np.empty((len(self.scores), _DRAWN_GALLERIES), np.float32)
        for number in range(_DRAWN_GALLERIES):
            drawn = rng.permutation(stand_ins)[:subjects]
            best[:, number] = self.scores[:, drawn].max(1)
        return _prior(best, self.person, 1)


def stand_ins(
    cohort: NDArray[np.float32],
    cohort_subject: NDArray[np.int64],
    probes: NDArray[np.float32],
    probe_subject: NDArray[np.int64],
    shots: int,
) -> StandIns | None:
    """Enrol cohort people with up to `shots` pictures each, and hold the others' probes against them.

    cohort: (m, D) unit norm, probes: (p, D), the same people's; subjects: any numbers.
    None for fewer than 20 people.
    """
    people, number = np.unique(cohort_subject, return_inverse=True)
    if len(people) < MIN_PEOPLE:
        return None
    chosen = np.unique(np.linspace(0, len(people) - 1, MAX_STAND_INS).round().astype(np.int64))
    order = np.argsort(number, kind="stable")
    counts = np.bincount(number)
    nth = np.empty(len(number), np.int64)
    nth[order] = np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = np.full(len(people), -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    taken = (place[number] >= 0) & (nth < shots)
    templates = fuse(cohort[taken], place[number[taken]], len(chosen))
    person = np.searchsorted(people, probe_subject)
    scores = probes @ templates.T
    own = place[person]
    scores[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
    return StandIns(scores, person)


def _prior(
    scores: NDArray[np.float32], person: NDArray[np.int64], subjects: int
) -> ClusterPrior | None:
    order = np.argsort(person, kind="stable")
    counts = np.bincount(person)
    counts = counts[counts > 0]
    starts = np.cumsum(counts) - counts
    grouped = scores[order]
    possible = np.add.reduceat(np.isfinite(grouped), starts, axis=0).astype(np.float64)
    columns, trials = scores.shape[1], float(possible.sum())
    highest = _MAX_RATE
    lowest = _MIN_HITS / trials
    if columns < 2 or lowest >= highest:
        return None
    deepest = int(highest * trials) + 1
    tail = np.sort(np.partition(grouped.ravel(), grouped.size - deepest - 1)[-deepest - 1 :])
    rates: list[float] = []
    effects: list[float] = []
    for rate in np.geomspace(lowest, highest, _RATES):
        cut = tail[len(tail) - 1 - int(rate * trials)]
        hits = np.add.reduceat(grouped > cut, starts, axis=0).astype(np.float64)
        found = float(hits.sum()) / trials
        if not rates or found > rates[-1]:
            rates.append(found)
            effects.append(_expected_effect(hits, possible, found, subjects))
    kept = [i for i, found in enumerate(rates) if found > 0]
    if not kept:
        return None
    return ClusterPrior(np.array(rates)[kept], np.array(effects)[kept])


def _expected_effect(
    hits: NDArray[np.float64], possible: NDArray[np.float64], rate: float, subjects: int
) -> float:
    """The variance between strangers over the binomial one, for `subjects` columns drawn at random.

    hits, possible: (people, columns). With d = hits - rate * possible, the expected square of a
    stranger's sum over N columns is N times the mean of d² and N (N - 1) times the mean of d d'.
    """
    if rate == 0:
        return 1.0
    columns = hits.shape[1]
    deviation = hits - rate * possible
    alone = float((deviation**2).sum())
    together = float((deviation.sum(1) ** 2).sum()) - alone
    binomial = float(possible.sum()) * rate * (1 - rate)
    expected = alone + (subjects - 1) * together / (columns - 1)
    return float(max(1.0, expected / binomial))
