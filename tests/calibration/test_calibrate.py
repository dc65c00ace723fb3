"""From scores to an operating point: the promise, the bound, and the refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limen.calibration.bounds import clopper_pearson, upper_bound
from limen.calibration.calibrate import (
    DoorScores,
    InsufficientEvidenceError,
    allowed_false_matches,
    calibrate,
    door_scores,
)
from limen.calibration.fusion import fuse, leave_one_out_scores
from limen.calibration.operating_point import OperatingPoint
from limen.errors import CalibrationError


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def point(mated, non_mated, max_fmr=1e-2, **options) -> OperatingPoint:
    defaults = {
        "confidence": 0.95,
        "model_id": "m",
        "enrolled_subjects": 1,
        "cohort_subjects": 1,
        "calibrated_at": "2026-01-01T00:00:00+00:00",
    }
    scores = DoorScores(np.asarray(mated, np.float32), np.asarray(non_mated, np.float32))
    return calibrate(scores, max_fmr=max_fmr, **{**defaults, **options})


def test_no_error_among_n_gives_the_rule_of_three() -> None:
    assert upper_bound(0, 1000, 0.95) == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert upper_bound(0, 1000, 0.95) == pytest.approx(3 / 1000, rel=0.01)


def test_clopper_pearson_is_the_published_interval() -> None:
    # 10 of 100 at 95 %: 0.0490 to 0.1762 (Brown, Cai, DasGupta, 2001, the exact interval).
    low, high = clopper_pearson(10, 100, 0.95)
    assert (low, high) == (pytest.approx(0.0490, abs=1e-4), pytest.approx(0.1762, abs=1e-4))
    assert clopper_pearson(0, 10, 0.95)[0] == 0
    assert clopper_pearson(10, 10, 0.95)[1] == 1


@given(st.integers(1, 20_000), st.floats(1e-4, 0.2))
@settings(max_examples=60)
def test_the_allowed_matches_are_the_most_that_keep_the_bound(trials, max_fmr) -> None:
    allowed = allowed_false_matches(trials, max_fmr, 0.95)
    if allowed >= 0:
        assert upper_bound(allowed, trials, 0.95) <= max_fmr
    assert allowed + 1 > trials or upper_bound(allowed + 1, trials, 0.95) > max_fmr


def test_the_bound_keeps_the_promise_and_ties_are_rejected_together() -> None:
    scores = np.round(np.random.default_rng(0).normal(0, 0.2, 20_000), 2)
    found = point([0.9, 0.1], scores, max_fmr=1e-2)
    assert found.fmr <= found.fmr_upper_bound <= 1e-2
    assert found.fmr == np.mean(scores.astype(np.float32) >= found.threshold)
    assert found.fnmr == 0.5
    assert found.mated_comparisons == 2


def test_the_bound_holds_for_the_true_rate_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    broken = 0
    for _ in range(300):
        found = point([], rng.random(2000), max_fmr=1e-2)
        broken += 1 - found.threshold > 1e-2  # the true FMR of uniform scores
    assert broken <= 0.05 * 300 + 3 * (300 * 0.05 * 0.95) ** 0.5


def test_too_few_comparisons_are_refused_with_a_claim_that_works() -> None:
    scores = np.random.default_rng(2).random(500)
    with pytest.raises(InsufficientEvidenceError, match="2995 are needed") as refused:
        point([], scores, max_fmr=1e-3)
    assert point([], scores, max_fmr=refused.value.strongest_max_fmr).fmr == 0


def test_a_floor_is_not_undercut() -> None:
    scores = np.linspace(-1, 0, 5000)
    assert point([], scores).threshold < 0.2
    assert point([], scores, threshold_floor=0.2).threshold == 0.2


def test_without_mated_comparisons_nothing_is_said_of_fnmr() -> None:
    found = point([], np.linspace(-1, 0, 5000))
    assert found.fnmr is None
    assert found.fnmr_interval is None


@pytest.mark.parametrize("max_fmr", [0, 1, -0.1, 1.5])
def test_a_rate_that_is_none_is_refused(max_fmr) -> None:
    with pytest.raises(CalibrationError, match="max_fmr"):
        point([], [0.1], max_fmr=max_fmr)


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(CalibrationError, match="finite"):
        point([], [0.1, np.nan])
    with pytest.raises(CalibrationError, match="no non-mated"):
        point([], [])


def test_fusion_and_leaving_one_out_are_what_loops_say() -> None:
    rng = np.random.default_rng(3)
    references = unit(rng.normal(size=(7, 8)))
    subject = np.array([0, 1, 1, 2, 2, 2, 3])
    templates = fuse(references, subject, 4)
    for number in range(4):
        mean = references[subject == number].astype(np.float64).mean(0)
        assert np.allclose(templates[number], mean / np.linalg.norm(mean), atol=1e-6)
    expected = []
    for row in range(7):
        others = [i for i in range(7) if subject[i] == subject[row] and i != row]
        if others:
            mean = references[others].astype(np.float64).mean(0)
            expected.append(references[row] @ mean / np.linalg.norm(mean))
    assert np.allclose(np.sort(leave_one_out_scores(references, subject, 4)), np.sort(expected))


def test_door_scores_count_every_comparison_of_strangers() -> None:
    rng = np.random.default_rng(4)
    references, cohort = unit(rng.normal(size=(5, 8))), unit(rng.normal(size=(11, 8)))
    scores = door_scores(references, np.array([0, 0, 1, 1, 1]), 2, cohort)
    assert len(scores.non_mated) == 5 + 11 * 2  # each reference against the other subject
    assert len(scores.mated) == 5


def test_contradicting_references_are_refused() -> None:
    with pytest.raises(CalibrationError, match="enrol that subject again"):
        fuse(np.array([[1, 0], [-1, 0]], np.float32), np.array([0, 0]), 1)


def test_an_operating_point_survives_json_and_a_damaged_one_says_so() -> None:
    found = point([0.5], np.linspace(-1, 0, 5000))
    assert OperatingPoint.from_json(found.model_dump_json()) == found
    with pytest.raises(CalibrationError, match="run 'limen calibrate' again"):
        OperatingPoint.from_json('{"threshold": "high"}')
