"""Visits of enrolled people to the door, as scores: what the runtime compared, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from limen.calibration.door_scores import DoorScores
from limen.calibration.operating_point import TransactionRates
from limen.calibration.transactions import (
    Chance,
    TransactionRule,
    false_acceptance,
    false_rejection,
    opens,
    rejected_visits,
)

SEED = 7  # of the looks that are drawn: the same scores give the same rates


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit of an enrolled person, each look the runtime's own fused probe.

    subject: number of the visitor; own: (f,), scores against the visitor's fused references; other:
    (f,), the highest against anybody else's, -1 where nobody else is enrolled; acquired: (f,),
    False for a failure to acquire, where the scores mean nothing; at_s: (f,), since the first face
    was seen; track: (f,), on which votes are counted.
    """

    subject: int
    own: NDArray[np.float32]
    other: NDArray[np.float32]
    acquired: NDArray[np.bool_]
    at_s: NDArray[np.float64]
    track: NDArray[np.int64]

    def opened(self, threshold: float, rule: TransactionRule) -> bool:
        """Whether the door would have opened for the visitor, and nobody else, within the limit."""
        in_time = self.at_s <= rule.time_limit_s
        scores = np.stack([self.own, self.other], axis=1)
        found = set()
        for number in np.unique(self.track[in_time]):
            looks = in_time & (self.track == number)
            found.add(opens(scores[looks], self.acquired[looks], threshold, rule.votes))
        return 0 in found and 1 not in found


def with_visits(scores: DoorScores, visits: list[Visit]) -> DoorScores:
    """Door scores whose mated ones are the visits', for the people who have any.

    The rest keep those of their enrolment shots, which are more alike than visits.
    """
    seen = [visit for visit in visits if visit.acquired.any()]
    if not seen:
        return scores
    visitors = np.unique([visit.subject for visit in seen])
    kept = ~np.isin(scores.mated_subject, visitors)
    own = [visit.own[visit.acquired] for visit in seen]
    owner = [np.full(len(each), visit.subject) for each, visit in zip(own, seen, strict=True)]
    return replace(
        scores,
        mated=np.concatenate([scores.mated[kept], *own]).astype(np.float32),
        mated_subject=np.concatenate([scores.mated_subject[kept], *owner]).astype(np.int64),
    )


def transaction(
    scores: DoorScores,
    threshold: float,
    rule: TransactionRule,
    confidence: float,
    visits: list[Visit],
) -> TransactionRates:
    """FAR and FRR of a visit at a threshold, with their intervals.

    FAR is of strangers whose visit acquires a face: failures to acquire would only lower it. FRR is
    counted over the visits where there are any, else drawn from mated scores.
    """
    rng = np.random.default_rng(SEED)
    far = false_acceptance(
        scores.best,
        # Where it is not known whom a stranger was like, votes for two count together: safer.
        np.zeros(len(scores.best), np.int64)
        if scores.best_subject is None
        else scores.best_subject,
        scores.best_stranger,
        threshold,
        rule,
        confidence,
        rng,
    )
    if visits:
        opened = np.array([visit.opened(threshold, rule) for visit in visits])
        frr = rejected_visits(opened, np.array([visit.subject for visit in visits]), confidence)
    else:
        frr = false_rejection(scores.mated, scores.mated_subject, threshold, rule, confidence, rng)
    failed = float(np.mean([not v.acquired.any() for v in visits])) if visits else None
    return TransactionRates(
        votes=rule.votes.votes,
        window=rule.votes.window,
        time_limit_s=rule.time_limit_s,
        decisions_per_s=rule.decisions_per_s,
        decisions=rule.decisions,
        failures_to_acquire=failed,
        frr_visits=frr.visits if frr else 0,
        **_fields("far", far),
        **_fields("frr", frr),
    )


def _fields(name: str, chance: Chance | None) -> dict[str, object]:
    if chance is None:
        return {}
    return {
        name: chance.rate,
        f"{name}_interval": chance.interval,
        f"{name}_alike": chance.alike,
        f"{name}_apart": chance.apart,
        f"{name}_people": chance.people,
    }
