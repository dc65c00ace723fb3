"""The cohort as a word on how much comparisons of one stranger are alike."""

import numpy as np
import pytest

from limen.calibration.calibrate import calibrate
from limen.calibration.cluster_prior import MIN_PEOPLE, StandIns, stand_ins
from limen.calibration.clusters import design_effect_of_counts
from limen.calibration.door_scores import door_scores


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def people_of(rng: np.random.Generator, people: int, pictures: int, size: int = 24):
    own = np.repeat(rng.normal(size=(people, size)), pictures, 0)
    return unit(own + 0.8 * rng.normal(size=own.shape)), np.repeat(np.arange(people), pictures)


@pytest.mark.parametrize("subjects", [1, 3, 10])
def test_the_closed_form_is_the_mean_over_galleries_that_are_drawn(subjects: int) -> None:
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(60), 4)
    # Strangers who are alike to everybody, and to each stand-in anew.
    own = rng.normal(size=(60, 1))[person] + 1.5 * rng.normal(size=(60, 40))[person]
    scores = (own + rng.normal(size=(240, 40))).astype(np.float32)
    prior = StandIns(scores, person).against_subjects(subjects)
    rate = float(prior.rate[-1])
    cut = np.sort(scores.ravel())[-1 - round(rate * scores.size)]
    numerator = denominator = 0.0
    for _ in range(3000):
        drawn = rng.permutation(40)[:subjects]
        hits = np.bincount(person, (scores[:, drawn] > cut).sum(1), 60)
        numerator += float(((hits - rate * 4 * subjects) ** 2).sum())
        denominator += 240 * subjects * rate * (1 - rate)
    assert prior.effect[-1] == pytest.approx(numerator / denominator, rel=0.05)


def test_independent_comparisons_have_no_design_effect() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(3000, 50)).astype(np.float32)
    prior = StandIns(scores, np.arange(3000)).against_subjects(5)
    assert prior.effect == pytest.approx(np.ones(len(prior.effect)), abs=0.05)
    assert np.all(np.diff(prior.rate) > 0)


def test_nobody_is_a_stranger_to_the_stand_in_of_their_own() -> None:
    rng = np.random.default_rng(2)
    cohort, subject = people_of(rng, 50, 4)
    named = subject * 7 + 3  # numbers need not be dense
    played = stand_ins(cohort, named, cohort, named, 2)
    assert played.scores.shape == (200, 50)
    assert np.array_equal(np.isneginf(played.scores), subject[:, None] == np.arange(50))


def test_a_cohort_of_few_people_says_nothing() -> None:
    cohort, subject = people_of(np.random.default_rng(3), MIN_PEOPLE - 1, 4)
    assert stand_ins(cohort, subject, cohort, subject, 2) is None
    assert door_scores(cohort[:2], np.zeros(2, np.int64), 1, cohort, subject).prior is None


def test_a_handful_of_strangers_shows_too_small_a_design_effect_and_the_prior_mends_it() -> None:
    rng = np.random.default_rng(4)
    cohort, subject = people_of(rng, 400, 6)
    seen, expected = [], []
    for _ in range(20):
        references, who = people_of(rng, 3, 3)
        scores = door_scores(references, who, 3, cohort, subject)
        strangers = scores.stranger >= 0
        cut = np.sort(scores.non_mated[strangers])[-8]  # seven false matches
        hits = np.bincount(scores.stranger[strangers], scores.non_mated[strangers] > cut, 400)
        seen.append(design_effect_of_counts(hits.astype(np.int64), np.full(400, 18)))
        expected.append(float(scores.prior.at(np.array([7 / 7200]))[0]))
    assert np.median(seen) < np.median(expected)


@pytest.mark.parametrize("people", [3, 8])
def test_new_strangers_stay_within_the_bound_at_small_galleries(people: int) -> None:
    rng = np.random.default_rng(5)
    broken, doors = 0, 60
    cohort, subject = people_of(rng, 300, 6)
    for _ in range(doors):
        references, who = people_of(rng, people, 3)
        new, _ = people_of(rng, 300, 6)
        found = calibrate(
            door_scores(references, who, people, cohort, subject),
            max_fmr=5e-3, confidence=0.95, model_id="m", enrolled_subjects=people,
            cohort_subjects=300, calibrated_at="",
        )  # fmt: skip
        templates = np.stack([unit(references[who == s].mean(0)[None])[0] for s in range(people)])
        broken += float(np.mean(new @ templates.T >= found.threshold)) > found.fmr_upper_bound
    assert broken <= 0.05 * doors
