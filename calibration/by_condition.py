"""A threshold by day and one by night, each from comparisons under that condition.

No cohort was photographed at this door by night. But a score is symmetric: an enrolled person's
probe of the night against a stranger's fused pictures is as alike as that stranger's probe of the
night against the enrolled person's references, as far as the two are strangers to each other. So
the guided visits of a condition, held against the cohort, stand for strangers' visits under it.
That rests on the few people who walked up; a condition's threshold is therefore never below the
general one, only above it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.calibrate import evidence_at, threshold_for
from limen.calibration.conditions import Condition
from limen.calibration.door_scores import DoorScores
from limen.calibration.operating_point import ConditionPoint, OperatingPoint
from limen.calibration.transactions import TransactionRule
from limen.calibration.visits import Visit, transaction

# Fewer people than these, or than are enrolled, say nothing about how a condition shifts scores.
MIN_VISITORS = 3


@dataclass(frozen=True, slots=True)
class StrangerScores:
    """One visit's last probe against the cohort: (q,) scores, and (q,) whose fused pictures."""

    subject: int
    scores: NDArray[np.float32]
    stranger: NDArray[np.int64]


def enough_visitors(visits: list[Visit], enrolled: int) -> bool:
    """Whether enough different people walked up, and were acquired, under a condition."""
    seen = {visit.subject for visit in visits if visit.acquired.any()}
    return len(seen) >= min(MIN_VISITORS, enrolled) > 0


def condition_scores(visits: list[Visit], against: list[StrangerScores]) -> DoorScores:
    """Door scores under one condition: the visits' own, and their probes against strangers.

    `best` is one score a stranger, the highest over all visits: higher than a single probe's, so
    rates of FPIR and FAR err on the safe side.
    """
    seen = [visit for visit in visits if visit.acquired.any()]
    scores = np.concatenate([each.scores for each in against])
    stranger = np.concatenate([each.stranger for each in against])
    whose = np.concatenate([np.full(len(e.scores), e.subject) for e in against])
    order = np.lexsort((scores, stranger))  # a stranger's highest comes last
    last = np.append(np.flatnonzero(np.diff(stranger[order])), len(order) - 1)
    top = order[last]
    return DoorScores(
        mated=np.concatenate([visit.own[visit.acquired] for visit in seen]).astype(np.float32),
        mated_subject=np.repeat(
            np.array([visit.subject for visit in seen], np.int64),
            [int(visit.acquired.sum()) for visit in seen],
        ),
        non_mated=scores.astype(np.float32),
        stranger=stranger.astype(np.int64),
        best=scores[top].astype(np.float32),
        best_stranger=stranger[top].astype(np.int64),
        best_subject=whose[top].astype(np.int64),
    )


def condition_point(
    general: OperatingPoint,
    condition: Condition,
    visits: list[Visit],
    against: list[StrangerScores],
    rule: TransactionRule,
) -> ConditionPoint:
    """The point of a condition: what `general` was asked for, kept under that condition too.

    InsufficientEvidenceError where the visits' comparisons cannot carry it.
    """
    scores = condition_scores(visits, against)
    threshold = threshold_for(
        scores,
        max_fmr=general.max_fmr,
        max_fpir=general.max_fpir,
        confidence=general.confidence,
    )
    threshold = max(threshold, general.threshold)
    found = evidence_at(scores, threshold, general.confidence)
    return ConditionPoint(
        condition=condition,
        threshold=threshold,
        visits=len(visits),
        transaction=transaction(scores, threshold, rule, general.confidence, visits),
        **{name: value for name, value in found.items() if not name.startswith("fpir")},
    )
