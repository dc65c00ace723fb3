"""Bounds against closed forms, published values and plain sums."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from limen.calibration.bootstrap import det_band, draw_people, interval, rate_interval
from limen.calibration.bounds import (
    clopper_pearson,
    predicted_errors,
    prediction_bound,
    upper_bound,
)
from limen.calibration.clusters import ALLOWANCE, design_effect, tail_evidence
from limen.calibration.rates import false_match_rate
from limen.errors import CalibrationError


def test_no_error_among_n_gives_the_rule_of_three() -> None:
    assert upper_bound(0, 1000, 0.95) == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert upper_bound(0, 1000, 0.95) == pytest.approx(3 / 1000, rel=0.01)


def test_clopper_pearson_is_the_published_interval() -> None:
    # 10 of 100 at 95 %: 0.0490 to 0.1762 (Brown, Cai, DasGupta, 2001, the exact interval).
    low, high = clopper_pearson(10, 100, 0.95)
    assert (low, high) == (pytest.approx(0.0490, abs=1e-4), pytest.approx(0.1762, abs=1e-4))
    assert clopper_pearson(0, 10, 0.95)[0] == 0
    assert clopper_pearson(10, 10, 0.95)[1] == 1


@pytest.mark.parametrize("wrong", [(-1, 10, 0.95), (11, 10, 0.95), (0, 0, 0.95), (1, 10, 1.0)])
def test_counts_and_confidences_that_are_none_are_refused(wrong) -> None:
    for bound in (upper_bound, clopper_pearson, prediction_bound):
        with pytest.raises(CalibrationError):
            bound(*wrong)


def test_no_error_twice_has_a_closed_form() -> None:
    # P(Binomial(y, 1/2) = 0) = 2^-y
    assert predicted_errors(0, 0.95) == pytest.approx(math.log(20) / math.log(2))
    assert prediction_bound(0, 1000, 0.95) == pytest.approx(4.3219e-3, rel=1e-4)


@given(st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_predicted_errors_bracket_the_binomial_sum(found) -> None:
    y = float(predicted_errors(found, 0.95))
    # The continuous solution lies between the whole numbers whose exact sums bracket 5 %.
    assert binom.cdf(found, found + math.floor(y), 0.5) >= 0.05 - 1e-9
    assert binom.cdf(found, found + math.ceil(y), 0.5) <= 0.05 + 1e-9 or math.ceil(y) == y


def test_many_predicted_errors_at_once_are_the_same_as_one_by_one() -> None:
    found = np.geomspace(1e-3, 20_000, 3000)
    together = predicted_errors(np.append(found, 0.0), 0.95)
    apart = [float(predicted_errors(one, 0.95)) for one in np.append(found, 0.0)[::300]]
    assert np.allclose(together[::300], apart, rtol=1e-5)


def test_two_poisson_tests_break_the_prediction_as_often_as_allowed() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.poisson(8, 20_000), rng.poisson(8, 20_000)
    broken = np.mean(second > predicted_errors(first, 0.95))
    assert 0.02 < broken <= 0.05  # whole counts make it err on the safe side


def test_the_design_effect_is_what_loops_say() -> None:
    rng = np.random.default_rng(1)
    person = rng.integers(0, 30, 200)
    hit = rng.random(200) < np.where(person < 4, 0.6, 0.02)
    rate = hit.mean()
    people = sorted(set(person.tolist()))
    between = 0.0
    for one in people:
        between += (hit[person == one].sum() - rate * (person == one).sum()) ** 2
    between *= len(people) / (len(people) - 1)
    assert design_effect(hit, person) == pytest.approx(between / (200 * rate * (1 - rate)))
    assert design_effect(np.zeros(5, bool), np.arange(5)) == 1


def test_the_design_effect_of_copies_is_their_number() -> None:
    hit = np.repeat(np.random.default_rng(2).random(2000) < 0.05, 4)
    assert design_effect(hit, np.repeat(np.arange(2000), 4)) == pytest.approx(4, rel=0.01)


def test_the_bootstrap_over_people_agrees_with_the_closed_form() -> None:
    rng = np.random.default_rng(3)
    own = np.repeat(rng.normal(size=300), 6)
    person = np.repeat(np.arange(300), 6)
    hit = own + rng.normal(size=1800) > 2
    drawn = draw_people(person, 3000, rng)
    hits, counts = np.bincount(drawn.number, hit), np.bincount(drawn.number)
    variance = np.var((drawn.times @ hits) / (drawn.times @ counts))
    rate = hit.mean()
    assert variance / (rate * (1 - rate) / 1800) == pytest.approx(
        design_effect(hit, person), rel=0.1
    )
    low, high = rate_interval(hit, person, 0.95, rng)
    assert low < rate < high
    wide = interval(lambda rows: float(hit[rows].mean()), person, 0.95, rng)
    assert wide == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


@given(
    st.lists(st.integers(0, 6).map(lambda value: value / 6), min_size=2, max_size=40),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_the_tail_holds_every_threshold_with_its_counts(values, data) -> None:
    scores = np.array(values, np.float32)
    who = np.array(
        data.draw(st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values)))
    )
    tail = tail_evidence(scores, who, confidence=0.95, max_rate=1.0)
    assert tail.cut.tolist() == [*sorted(set(scores.tolist()), reverse=True), -np.inf]
    for cut, matches, strangers in zip(tail.cut, tail.false_matches, tail.strangers, strict=True):
        assert matches == round(false_match_rate(scores, np.nextafter(cut, 2)) * len(scores))
        assert strangers == len(set(who[scores > cut].tolist()))


def test_the_bound_of_independent_comparisons_is_the_prediction_bound() -> None:
    scores = np.random.default_rng(4).random(5000)
    tail = tail_evidence(scores, np.arange(5000), confidence=0.95, max_rate=0.01)
    for rank in (0, 3, 40):
        expected = ALLOWANCE * prediction_bound(tail.false_matches[rank], 5000, 0.95)
        assert tail.bound[rank] == pytest.approx(expected, rel=0.01)


def test_few_people_carry_little_however_many_their_comparisons() -> None:
    scores, who = np.linspace(0, 0.5, 900), np.arange(900) % 3
    tail = tail_evidence(scores, who, confidence=0.95, max_rate=0.01)
    assert tail.bound[0] == 1.0


def test_the_band_of_a_det_curve_covers_the_true_one() -> None:
    rng = np.random.default_rng(5)
    levels = np.array([1e-2, 5e-2])
    covered = []
    for _ in range(20):
        person = np.repeat(np.arange(300), 4)
        non_mated = rng.normal(size=1200).astype(np.float32)
        mated = rng.normal(2, 1, 150).astype(np.float32)
        low, high = det_band(
            mated, np.arange(150) // 3, non_mated, person, levels, 0.95, rng, draws=100
        )
        true = np.array([0.62804, 0.36124])  # Phi(z - 2) with z at 1e-2 and 5e-2
        covered.append((low <= true) & (true <= high))
    assert np.mean(covered) > 0.8
    with pytest.raises(CalibrationError, match="two of them"):
        det_band(mated, person[:150], non_mated, np.zeros(1200), levels, 0.95, rng)
