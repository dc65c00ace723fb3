"""What a score means: never more than the comparisons carry."""

import json
import math

import numpy as np
import pytest

from limen.calibration.door_scores import DoorScores
from limen.calibration.likelihood import cllr
from limen.calibration.meaning import ScoreMeaning, cohort_mated_scores, find_meaning
from limen.calibration.operating_point import OperatingPoint
from limen.calibration.plain_words import (
    one_in,
    rarity_words,
    rate_in_words,
    ratio_words,
    score_words,
)

NOBODY = (np.zeros(0, np.float32), np.zeros(0, np.int64))


def scores_of(rng: np.random.Generator, mated: int = 400, people: int = 40, strangers: int = 4000):
    """Two normal distributions of one width: the true log ratio is a straight line."""
    m = rng.normal(0.5, 0.1, mated).astype(np.float32)
    n = rng.normal(0.1, 0.1, strangers).astype(np.float32)
    who = np.arange(strangers)
    return DoorScores(m, np.arange(mated) % people, n, who, n, who)


@pytest.fixture(scope="module")
def meaning() -> ScoreMeaning:
    return find_meaning(scores_of(np.random.default_rng(0)), NOBODY, 0.95)


def test_the_ratio_is_the_true_one_where_the_counts_carry_it(meaning: ScoreMeaning) -> None:
    for score in (0.25, 0.3, 0.35):
        true = ((score - 0.1) ** 2 - (score - 0.5) ** 2) / (2 * 0.1**2)
        assert meaning.log_ratio(score) == pytest.approx(true, abs=0.6)
        assert meaning.isotonic_log_ratio(score) == pytest.approx(true, abs=1.5)


def test_no_ratio_goes_beyond_the_counts(meaning: ScoreMeaning) -> None:
    # 4,000 independent comparisons, none of them as high: 4.3 / n, widened by a tenth.
    assert meaning.log_ratio(1.0) == meaning.isotonic_log_ratio(1.0) == meaning.limit_for
    assert math.exp(meaning.limit_for) == pytest.approx(4000 / (1.1 * 4.32), rel=0.01)
    # 40 people: at most one in 13.9 of them could be missed unseen.
    assert math.exp(-meaning.log_ratio(-1.0)) == pytest.approx(1 / (1 - 0.05 ** (1 / 40)), rel=1e-6)
    assert "times or more" in ratio_words(meaning, 1.0, "ann")


def test_rarity_is_counted_and_ends_in_a_limit(meaning: ScoreMeaning) -> None:
    scores = scores_of(np.random.default_rng(0)).non_mated
    for score in (0.1, 0.3, 0.33):
        rarity = meaning.strangers(score)
        counted = len(scores) / int((scores >= score).sum())
        assert not rarity.at_most
        assert counted * 0.6 <= rarity.one_in <= counted  # rows are coarse, on the safe side
    highest = meaning.strangers(0.99)
    assert highest.at_most
    assert highest.one_in == pytest.approx(4000 / (1.1 * 4.32), rel=0.01)
    assert score_words(meaning, 0.99, "ann").startswith("fewer than 1 stranger in 840 looks")


def test_a_higher_score_is_never_told_to_be_commoner(meaning: ScoreMeaning) -> None:
    told = [meaning.strangers(float(score)).one_in for score in np.linspace(-1, 1, 400)]
    seen = [
        n
        for n, s in zip(told, np.linspace(-1, 1, 400), strict=True)
        if not meaning.strangers(float(s)).at_most
    ]
    assert seen == sorted(seen)
    assert max(seen) <= told[-1] * (1 + 1e-9)
    ratios = [meaning.weaker_log_ratio(float(score)) for score in np.linspace(-1, 1, 400)]
    assert ratios == sorted(ratios)


def test_cllr_is_of_people_left_out_and_not_below_the_minimum(meaning: ScoreMeaning) -> None:
    scores = scores_of(np.random.default_rng(0))
    shift = 0.08 / 0.1**2
    true = cllr((scores.mated - 0.3) * shift / 0.2, (scores.non_mated - 0.3) * shift / 0.2)
    assert meaning.min_cllr < meaning.cllr < 1
    assert meaning.cllr == pytest.approx(true, abs=0.06)


def test_few_mated_scores_are_replaced_by_the_cohorts_and_said_to_be() -> None:
    scores = scores_of(np.random.default_rng(1), mated=6, people=2)
    assert find_meaning(scores, NOBODY, 0.95) is None
    others = scores_of(np.random.default_rng(2))
    found = find_meaning(scores, (others.mated, others.mated_subject), 0.95)
    assert (found.mated_from, found.mated_people) == ("cohort", 40)


def test_scores_that_speak_for_nothing_have_no_meaning() -> None:
    scores = scores_of(np.random.default_rng(3))
    upside_down = DoorScores(
        -scores.mated,
        scores.mated_subject,
        scores.non_mated,
        scores.stranger,
        scores.best,
        scores.best_stranger,
    )
    assert find_meaning(upside_down, NOBODY, 0.95) is None


def test_cohort_people_are_held_against_their_own_other_pictures() -> None:
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(9, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    subject = np.array([5, 5, 5, 5, 9, 9, 9, 2, 2])
    mated, who = cohort_mated_scores(rows, subject, 2)
    template = rows[0] + rows[1]
    template /= np.linalg.norm(template)
    assert who.tolist() == [5, 5, 9]
    assert mated[:2] == pytest.approx(rows[2:4] @ template, abs=1e-6)
    assert len(cohort_mated_scores(rows[:0], subject[:0], 2)[0]) == 0


def test_a_point_with_its_meaning_survives_being_stored(meaning: ScoreMeaning) -> None:
    point = OperatingPoint(
        model_id="m", threshold=0.4, max_fmr=1e-3, confidence=0.95, fmr=0, fmr_upper_bound=1e-3,
        non_mated_comparisons=10, enrolled_subjects=1, cohort_subjects=1, calibrated_at="", meaning=meaning,
    )  # fmt: skip
    assert OperatingPoint.from_json(point.model_dump_json()) == point
    older = json.loads(point.model_dump_json())
    del older["meaning"]
    assert OperatingPoint.from_json(json.dumps(older)).meaning is None


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1.2, "1 in 1"),
        (3.4, "1 in 3"),
        (43.4, "1 in 43"),
        (4321, "1 in 4,300"),
        (39_900, "1 in 40,000"),
    ],
)
def test_two_digits_are_told_and_no_more(number: float, words: str) -> None:
    assert one_in(number) == words


def test_words_for_common_and_rare(meaning: ScoreMeaning) -> None:
    assert rarity_words(meaning.strangers(-0.9), "ann") == "most strangers look this much like ann"
    assert rarity_words(meaning.strangers(0.3), "ann").startswith("about 1 stranger in ")
    assert rate_in_words(0.5) == "50%"
    assert rate_in_words(0.001) == "1 in 1,000"
    assert "speaks neither for ann nor against" in ratio_words(meaning, 0.3, "ann")
