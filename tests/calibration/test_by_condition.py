"""A threshold by night: whether it holds for strangers who come by night, and fails secure."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from limen.calibration.by_condition import (
    StrangerScores,
    condition_point,
    condition_scores,
    enough_visitors,
)
from limen.calibration.calibrate import InsufficientEvidenceError, calibrate
from limen.calibration.conditions import Condition
from limen.calibration.door_scores import door_scores
from limen.calibration.fusion import fuse, fused_probes
from limen.calibration.operating_point import OperatingPoint
from limen.calibration.transactions import TransactionRule
from limen.calibration.visits import Visit

AT, SIZE = "2026-11-01T12:00:00Z", 48


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def pictures(rng, identity: np.ndarray, count: int, common: float) -> np.ndarray:
    """Pictures of people: identity, noise, and what all pictures of that light have in common."""
    people = np.repeat(identity, count, 0)
    noisy = people + 0.5 * rng.normal(size=people.shape) / np.sqrt(SIZE)
    noisy[:, 0] += common
    return unit(noisy)


def people(rng, count: int) -> np.ndarray:
    return rng.normal(size=(count, SIZE)) / np.sqrt(SIZE)


def visit_of(own: np.ndarray, subject: int, acquired: bool = True) -> Visit:
    count = len(own)
    return Visit(
        subject,
        own.astype(np.float32),
        np.full(count, -1, np.float32),
        np.full(count, acquired),
        0.2 * np.arange(count),
        np.zeros(count, np.int64),
    )


def door(seed: int, night: float, visitors: int = 8):
    """A calibrated gallery with its night visits, and the scores of new strangers by night."""
    rng = np.random.default_rng(seed)
    enrolled, strangers = people(rng, 8), people(rng, 600)
    references = pictures(rng, enrolled, 3, 0.35)
    subject = np.repeat(np.arange(8), 3)
    cohort, whose = pictures(rng, strangers, 4, 0.35), np.repeat(np.arange(600), 4)
    templates = fuse(references, subject, 8)
    general = calibrate(
        door_scores(references, subject, 8, cohort, whose),
        max_fmr=1e-2,
        confidence=0.95,
        model_id="m",
        enrolled_subjects=8,
        cohort_subjects=600,
        calibrated_at=AT,
    )
    probes = pictures(rng, enrolled, 1, night)
    stood, number = fused_probes(cohort, whose, 3)
    visits = [visit_of(np.full(5, probes[i] @ templates[i]), i) for i in range(visitors)]
    against = [StrangerScores(i, stood @ probes[i], number) for i in range(visitors)]
    truth = pictures(rng, people(rng, 2000), 1, night) @ templates.T
    return general, visits, against, truth


def test_night_point_holds_for_strangers_by_night_where_the_general_one_does_not() -> None:
    general_broken = night_broken = 0
    for seed in range(40):
        general, visits, against, truth = door(seed, night=0.8)
        found = condition_point(general, Condition.NIGHT, visits, against, TransactionRule())
        assert found.threshold > general.threshold
        general_broken += (truth >= general.threshold).mean() > 1e-2
        night_broken += (truth >= found.threshold).mean() > 1e-2
    assert general_broken >= 38
    assert night_broken <= 4


def test_easier_light_never_lowers_the_threshold() -> None:
    general, visits, against, _ = door(0, night=-0.3)
    found = condition_point(general, Condition.DAY, visits, against, TransactionRule())
    assert found.threshold == general.threshold
    assert found.fmr_upper_bound < 1e-2
    assert found.mated_comparisons == 40
    assert found.transaction.frr_visits == 8


def test_condition_that_cannot_carry_the_claim_is_refused() -> None:
    general, visits, against, _ = door(0, night=0.8)
    few = [StrangerScores(0, each.scores[:20], each.stranger[:20]) for each in against[:1]]
    with pytest.raises(InsufficientEvidenceError):
        condition_point(general, Condition.NIGHT, visits, few, TransactionRule())


def test_best_scores_of_a_condition_are_one_a_stranger() -> None:
    _, visits, against, _ = door(1, night=0.8)
    scores = condition_scores(visits, against)
    assert len(scores.best) == 600 == len(np.unique(scores.best_stranger))
    for person in (0, 77, 599):
        assert scores.best[scores.best_stranger == person] == pytest.approx(
            max(float(each.scores[each.stranger == person].max()) for each in against)
        )


def test_visitors_are_enough_from_three_or_from_everybody() -> None:
    def some(count: int) -> list[Visit]:
        return [visit_of(np.ones(2), i) for i in range(count)]

    assert enough_visitors(some(3), 10)
    assert not enough_visitors(some(2), 10)
    assert enough_visitors(some(1), 1)
    assert not enough_visitors([visit_of(np.ones(2), 0, acquired=False)], 1)
    assert not enough_visitors([], 0)


def test_condition_without_a_point_takes_the_strictest() -> None:
    general, visits, against, _ = door(0, night=0.8)
    night = condition_point(general, Condition.NIGHT, visits, against, TransactionRule())
    assert general.threshold_in(Condition.NIGHT) == general.threshold
    point = OperatingPoint.model_validate(
        {**general.model_dump(), "by_light": True, "conditions": [night.model_dump()]}
    )
    assert point.threshold_in(Condition.NIGHT) == night.threshold
    assert point.threshold_in(Condition.DAY) == night.threshold
    assert OperatingPoint.from_json(point.model_dump_json()) == point
    lower = {**night.model_dump(), "threshold": general.threshold - 0.1}
    with pytest.raises(ValidationError, match="below the general one"):
        OperatingPoint.model_validate({**general.model_dump(), "conditions": [lower]})
    with pytest.raises(ValidationError, match="two points"):
        OperatingPoint.model_validate(
            {**general.model_dump(), "conditions": [night.model_dump()] * 2}
        )
