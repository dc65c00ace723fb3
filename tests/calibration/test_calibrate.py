"""From scores to an operating point: the promise, the bound, and the refusals."""

import numpy as np
import pytest

from limen.calibration.calibrate import InsufficientEvidenceError, calibrate, rounded_up
from limen.calibration.clusters import ALLOWANCE
from limen.calibration.door_scores import DoorScores, door_scores
from limen.calibration.enrolment_faults import EnrolmentFaultError, find_faults
from limen.calibration.fusion import fuse, fuse_track, fused_probes, leave_one_out_scores
from limen.calibration.operating_point import OperatingPoint
from limen.errors import CalibrationError


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def point_of(scores: DoorScores, max_fmr=1e-2, **options) -> OperatingPoint:
    defaults = {
        "confidence": 0.95,
        "model_id": "m",
        "enrolled_subjects": 1,
        "cohort_subjects": 1,
        "calibrated_at": "2026-01-01T00:00:00+00:00",
    }
    return calibrate(scores, max_fmr=max_fmr, **{**defaults, **options})


def point(mated, non_mated, max_fmr=1e-2, **options) -> OperatingPoint:
    scores = DoorScores.independent(
        np.asarray(mated, np.float32), np.asarray(non_mated, np.float32)
    )
    return point_of(scores, max_fmr, **options)


def people_alike(rng: np.random.Generator, people: int, pictures: int) -> DoorScores:
    """Strangers of whom half the variance of a score is the person's own."""
    own = np.repeat(rng.normal(size=people), pictures)
    scores = ((own + rng.normal(size=people * pictures)) / 2**0.5 / 8).astype(np.float32)
    who = np.repeat(np.arange(people), pictures)
    return DoorScores(np.ones(2, np.float32), np.arange(2), scores, who, scores, who)


def test_the_bound_keeps_the_promise_and_ties_are_rejected_together() -> None:
    scores = np.round(np.random.default_rng(0).normal(0, 0.2, 20_000), 2)
    found = point([0.9, 0.1], scores, max_fmr=1e-2)
    assert found.fmr <= found.fmr_upper_bound <= 1e-2
    assert found.fmr == np.mean(scores.astype(np.float32) >= found.threshold)
    assert found.fnmr == 0.5
    assert found.mated_comparisons == 2


@pytest.mark.parametrize("alike", [False, True])
def test_a_test_with_new_strangers_stays_within_the_bound_as_often_as_it_says(alike) -> None:
    rng = np.random.default_rng(1)
    broken = 0
    for _ in range(200):
        scores, new = (
            people_alike(rng, 500, 5) if alike else people_alike(rng, 2500, 1) for _ in range(2)
        )
        found = point_of(scores, max_fmr=1e-2)
        broken += np.mean(new.non_mated >= found.threshold) > found.fmr_upper_bound
    # Five of a hundred are allowed, and the allowance for another population makes it fewer.
    assert broken <= 0.05 * 200


def test_comparisons_of_one_stranger_count_together() -> None:
    rng = np.random.default_rng(2)
    alike, independent = people_alike(rng, 500, 8), people_alike(rng, 4000, 1)
    few, many = (point_of(scores, max_fmr=1e-2) for scores in (alike, independent))
    assert few.effective_comparisons < 0.8 * 4000
    assert many.effective_comparisons > 0.9 * 4000
    assert few.threshold > many.threshold


def test_too_few_comparisons_are_refused_with_a_claim_that_works() -> None:
    scores = np.random.default_rng(2).random(500)
    with pytest.raises(InsufficientEvidenceError, match="'limen calibrate --max-fmr") as refused:
        point([], scores, max_fmr=1e-3)
    needed = ALLOWANCE * np.log(20) / np.log(2) / 1e-3  # none among n, and none of the next n: 2^-y
    assert refused.value.missing_comparisons == pytest.approx(needed - 500, rel=0.01)
    assert refused.value.missing_strangers == refused.value.missing_comparisons
    assert point([], scores, max_fmr=refused.value.strongest_max_fmr).fmr == 0


def test_the_missing_comparisons_would_have_been_enough() -> None:
    scores = np.random.default_rng(3).random(500)
    with pytest.raises(InsufficientEvidenceError) as refused:
        point([], scores, max_fmr=1e-3)
    more = np.random.default_rng(4).random(500 + refused.value.missing_comparisons)
    assert point([], more, max_fmr=1e-3).fmr_upper_bound <= 1e-3


def test_one_stranger_carries_no_claim() -> None:
    values, who = np.linspace(0, 0.5, 900).astype(np.float32), np.zeros(900, np.int64)
    scores = DoorScores(values[:0], who[:0], values, who, values, who)
    with pytest.raises(InsufficientEvidenceError):
        point_of(scores, max_fmr=1e-2)


def test_a_floor_is_not_undercut_without_being_told() -> None:
    scores = np.linspace(-1, 0, 5000)
    assert point([], scores).threshold < 0.2
    kept = point([], scores, threshold_floor=0.2)
    assert (kept.threshold, kept.below_floor) == (0.2, False)
    assert kept.fmr_upper_bound < 1e-2  # the evidence is of the threshold that is used
    told = point([], scores, threshold_floor=0.2, below_floor=True)
    assert told.threshold < 0.2
    assert told.below_floor


def test_identification_can_ask_for_more_than_verification() -> None:
    rng = np.random.default_rng(5)
    references, cohort = unit(rng.normal(size=(40, 64))), unit(rng.normal(size=(3000, 64)))
    scores = door_scores(references, np.arange(40) // 2, 20, cohort)
    verifying = point_of(scores, max_fmr=1e-2)
    identifying = point_of(scores, max_fmr=1e-2, max_fpir=1e-2)
    assert identifying.threshold > verifying.threshold
    assert identifying.fpir_upper_bound <= 1e-2
    assert verifying.fpir > 1e-2


def test_the_threshold_follows_when_people_are_added() -> None:
    rng = np.random.default_rng(6)
    references, cohort = unit(rng.normal(size=(100, 64))), unit(rng.normal(size=(3000, 64)))
    subject = np.arange(100) // 2
    thresholds = [
        point_of(
            door_scores(references[: 2 * n], subject[: 2 * n], n, cohort), 0.5, max_fpir=1e-2
        ).threshold
        for n in (2, 10, 50)
    ]
    assert thresholds == sorted(thresholds)
    assert thresholds[2] > thresholds[0] + 0.05


def test_without_mated_comparisons_nothing_is_said_of_fnmr() -> None:
    found = point([], np.linspace(-1, 0, 5000))
    assert found.fnmr is None
    assert found.fnmr_interval is None


@pytest.mark.parametrize("max_fmr", [0, 1, -0.1, 1.5, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(max_fmr) -> None:
    with pytest.raises(CalibrationError, match="max_fmr"):
        point([], [0.1], max_fmr=max_fmr)
    with pytest.raises(CalibrationError, match="max_fpir"):
        point([], [0.1], max_fpir=max_fmr)


def test_a_rate_that_nobody_can_show_is_refused_with_what_is_missing() -> None:
    with pytest.raises(InsufficientEvidenceError, match="are missing"):
        point([], np.linspace(0, 1, 5000), max_fmr=1e-12)


def test_scores_that_are_not_finite_are_refused() -> None:
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(CalibrationError, match="finite"):
            point([], [0.1, wrong])
        with pytest.raises(CalibrationError, match="finite"):
            point([wrong], [0.1, 0.2])
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
    expected, owners = [], []
    for row in range(7):
        others = [i for i in range(7) if subject[i] == subject[row] and i != row]
        if others:
            mean = references[others].astype(np.float64).mean(0)
            expected.append(references[row] @ mean / np.linalg.norm(mean))
            owners.append(subject[row])
    scores, whose = leave_one_out_scores(references, subject, 4)
    assert np.allclose(scores, expected)
    assert whose.tolist() == owners


def test_probes_are_fused_as_a_track_is() -> None:
    rng = np.random.default_rng(4)
    pictures = unit(rng.normal(size=(8, 5)))
    subject = np.array([3, 1, 3, 3, 1, 3, 3, 9])
    probes, who = fused_probes(pictures, subject, 2)
    assert who.tolist() == [1, 3, 3, 9]  # five pictures of 3: two, and two with the one left over
    for row, members in enumerate([[1, 4], [0, 2], [3, 5, 6], [7]]):
        assert np.allclose(probes[row], fuse_track(pictures[members]), atol=1e-6)
    same, whose = fused_probes(pictures, subject, 1)
    assert same is pictures
    assert whose is subject


def test_door_scores_count_every_comparison_of_strangers_and_know_whose_they_are() -> None:
    rng = np.random.default_rng(4)
    references, cohort = unit(rng.normal(size=(5, 8))), unit(rng.normal(size=(11, 8)))
    subject, people = np.array([0, 0, 1, 1, 1]), np.arange(11) // 2
    scores = door_scores(references, subject, 2, cohort, people)
    assert len(scores.non_mated) == 5 + 11 * 2  # each reference against the other subject
    assert len(scores.mated) == 5
    templates = fuse(references, subject, 2)
    seen = sorted(zip(scores.stranger.tolist(), scores.non_mated.tolist(), strict=True))
    expected = [
        (int(people[i]), float(cohort[i] @ templates[j])) for i in range(11) for j in (0, 1)
    ]
    expected += [
        (-1 - int(s), float(r @ templates[1 - s])) for r, s in zip(references, subject, strict=True)
    ]
    assert np.allclose(seen, sorted(expected), atol=1e-6)
    assert np.allclose(scores.best, (cohort @ templates.T).max(1))


def test_a_cohort_of_another_model_is_refused() -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(CalibrationError, match="cohort of another model"):
        door_scores(unit(rng.normal(size=(2, 8))), np.arange(2), 2, unit(rng.normal(size=(3, 9))))


def test_contradicting_references_are_refused() -> None:
    with pytest.raises(CalibrationError, match="enrol that subject again"):
        fuse(np.array([[1, 0], [-1, 0]], np.float32), np.array([0, 0]), 1)


def test_one_picture_enrolled_several_times_is_found() -> None:
    rng = np.random.default_rng(7)
    picture, others = unit(rng.normal(size=(1, 16))), unit(rng.normal(size=(3, 16)))
    faults = find_faults(
        np.concatenate([np.repeat(picture, 3, 0), others]),
        np.array([0, 0, 0, 1, 1, 2]),
        3,
        np.zeros((0, 16), np.float32),
        np.zeros(0, np.int64),
    )
    assert faults.copies == (0,)
    with pytest.raises(EnrolmentFaultError, match="the same picture") as refused:
        faults.raise_for(["ann", "bo", "cy"], True)
    assert refused.value.subject_ids == ("ann",)
    assert "ann" not in str(refused.value)


def test_one_person_enrolled_twice_is_found_and_lookalikes_may_be_accepted() -> None:
    rng = np.random.default_rng(8)
    person = rng.normal(size=(30, 16))
    cohort = unit(np.repeat(person, 6, 0) + 0.5 * rng.normal(size=(180, 16)))
    subject = np.repeat(np.arange(30), 6)
    twice = unit(rng.normal(size=16) + 0.3 * rng.normal(size=(4, 16)))
    references = np.concatenate([twice, unit(rng.normal(size=(2, 16)))])
    faults = find_faults(references, np.array([0, 0, 1, 1, 2, 2]), 3, cohort, subject)
    assert faults.one_person == ((0, 1),)
    with pytest.raises(EnrolmentFaultError, match="--accept-lookalikes"):
        faults.raise_for(["ann", "bo", "cy"], False)
    faults.raise_for(["ann", "bo", "cy"], True)


def test_an_operating_point_survives_json_and_a_damaged_one_says_so() -> None:
    found = point([0.5], np.linspace(-1, 0, 5000))
    assert OperatingPoint.from_json(found.model_dump_json()) == found
    with pytest.raises(CalibrationError, match="run 'limen calibrate' again"):
        OperatingPoint.from_json('{"threshold": "high"}')


@pytest.mark.parametrize("value", [0.00123, 0.5, 1.0, 9.99e-7])
def test_a_claim_is_rounded_up_never_down(value) -> None:
    assert value <= rounded_up(value) <= value * 1.1
