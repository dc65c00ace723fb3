"""FAR and FRR of visits: against closed forms, a plain loop, and simulated visits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from limen.calibration.door_scores import DoorScores
from limen.calibration.transactions import (
    NOBODY,
    TransactionRule,
    Votes,
    chance_of_opening,
    false_acceptance,
    false_rejection,
    opens,
    rejected_visits,
    transaction_rates,
)
from limen.calibration.visits import Visit, transaction, with_visits
from limen.errors import CalibrationError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(6)


def one_look(votes: int, window: int) -> TransactionRule:
    """A visit of exactly one window."""
    return TransactionRule(Votes(votes, window), time_limit_s=1.0, decisions_per_s=window)


def visit(subject: int, own: list[float | None], other: float = -1.0, step_s: float = 0.2) -> Visit:
    count = len(own)
    return Visit(
        subject,
        np.array([-1.0 if score is None else score for score in own], np.float32),
        np.full(count, other, np.float32),
        np.array([score is not None for score in own], np.bool_),
        step_s * np.arange(count),
        np.zeros(count, np.int64),
    )


def test_one_attempt_counts_failures_to_acquire() -> None:
    assert transaction_rates(1e-3, 0.05, 0.1) == (pytest.approx(9e-4), pytest.approx(0.145))
    with pytest.raises(CalibrationError):
        transaction_rates(1e-3, 0.05, 1.1)


def test_votes_open_as_the_door_counts_them() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.1, 0.2], [0.9, 0.3]], np.float32)
    seen = np.ones(5, bool)
    assert opens(scores, seen, 0.7, Votes(3, 5)) == 0
    assert opens(scores, seen, 0.7, Votes(3, 4)) is None
    assert opens(scores, np.array([False, *seen[1:]]), 0.7, Votes(3, 5)) is None
    assert opens(scores[:0], seen[:0], 0.7, Votes(1, 1)) is None
    with pytest.raises(CalibrationError):
        Votes(3, 2)
    with pytest.raises(CalibrationError, match="time limit"):
        TransactionRule(Votes(1, 1), time_limit_s=0)


def test_drawn_looks_open_as_often_as_the_binomial_says(rng) -> None:
    voted = np.array([0, NOBODY, NOBODY, NOBODY])
    found = chance_of_opening(voted, one_look(3, 5), rng, draws=20_000)
    assert found == pytest.approx(float(binom.sf(2, 5, 0.25)), abs=0.01)
    assert chance_of_opening(np.array([NOBODY] * 4), one_look(1, 1), rng) == 0
    assert chance_of_opening(np.array([2, 2]), one_look(3, 5), rng) == 1
    # Votes for two subjects do not add up.
    split = chance_of_opening(np.array([0, 1]), one_look(5, 5), rng, draws=20_000)
    assert split == pytest.approx(2 * 0.5**5, abs=0.01)


def test_drawn_looks_agree_with_a_plain_loop_over_long_visits(rng) -> None:
    rule = TransactionRule(Votes(3, 5), time_limit_s=4, decisions_per_s=5)
    voted = np.array([0, 1, NOBODY, NOBODY, NOBODY])
    fast = chance_of_opening(voted, rule, np.random.default_rng(1), draws=4000)
    slow = 0
    for _ in range(4000):
        looks = voted[rng.integers(0, 5, rule.decisions)]
        scores = np.stack([looks == 0, looks == 1], axis=1).astype(np.float32)
        slow += opens(scores, np.ones(len(looks), bool), 0.5, rule.votes) is not None
    assert fast == pytest.approx(slow / 4000, abs=0.035)


def test_far_is_the_worse_of_looks_that_agree_and_looks_that_do_not(rng) -> None:
    best = rng.random(5000).astype(np.float32)
    stranger = np.repeat(np.arange(1000), 5)
    nobody_else = np.zeros(5000, np.int64)
    far = false_acceptance(best, nobody_else, stranger, 0.8, one_look(3, 5), 0.95, rng)
    assert far.alike == pytest.approx(0.2, abs=0.02)
    assert far.rate == far.alike > far.apart
    assert far.interval[0] < far.rate < far.interval[1]
    assert far.people == 1000
    # Ten seconds of looks that differ give a stranger many more windows than one.
    long = false_acceptance(best, nobody_else, stranger, 0.8, TransactionRule(), 0.95, rng)
    assert long.rate == long.apart > far.apart
    half = false_acceptance(best, nobody_else, stranger, 0.8, one_look(3, 5), 0.95, rng, 0.5)
    assert half.alike == pytest.approx(far.alike / 2)
    assert (
        false_acceptance(best[:0], stranger[:0], stranger[:0], 0.8, one_look(1, 1), 0.95, rng)
        is None
    )


def test_far_interval_holds_the_truth_at_most_doors() -> None:
    """Strangers with a probability each, four pictures: the truth is of endless new strangers."""
    rule, held = one_look(2, 3), 0
    truth_rng = np.random.default_rng(0)
    chance = truth_rng.beta(0.1, 4, 200_000)
    truth = float(chance.mean())  # looks that all decide alike
    for door in range(200):
        rng = np.random.default_rng(door + 1)
        people = rng.beta(0.1, 4, 500)
        voted = rng.random((500, 4)) < people[:, None]
        best = voted.ravel().astype(np.float32)
        who = np.repeat(np.arange(500), 4)
        far = false_acceptance(best, 0 * who, who, 0.5, rule, 0.95, rng)
        low, high = (far.interval[0], far.interval[1])
        held += low <= max(truth, far.apart) <= high
    assert held >= 190


def test_frr_from_single_scores_and_from_whole_visits(rng) -> None:
    mated = np.array([0.9, 0.9, 0.9, 0.1, 0.9, 0.9], np.float32)
    subject = np.array([0, 0, 1, 1, 2, 2])
    frr = false_rejection(mated, subject, 0.5, one_look(1, 1), 0.95, rng)
    assert frr.rate == pytest.approx(1 / 6, abs=0.02)
    assert frr.visits == 0
    counted = rejected_visits(np.array([True, True, False, True]), np.array([0, 0, 1, 2]), 0.95)
    assert (counted.rate, counted.visits, counted.people) == (0.25, 4, 3)
    assert counted.interval[0] < 0.25 < counted.interval[1]
    # The same person refused every time says less than four people refused once each.
    alike = rejected_visits(np.array([False] * 4 + [True] * 8), np.repeat([0, 1, 2], 4), 0.95)
    apart = rejected_visits(np.array([False] * 4 + [True] * 8), np.arange(12), 0.95)
    assert alike.interval[1] > apart.interval[1]


def test_a_visit_opens_within_its_time_on_one_track_and_for_its_visitor() -> None:
    rule = TransactionRule(Votes(3, 5), time_limit_s=1.0)
    good = visit(0, [0.9] * 3)
    assert good.opened(0.5, rule)
    assert not good.opened(0.95, rule)
    assert not visit(0, [0.9] * 3, step_s=0.6).opened(0.5, rule)
    assert not visit(0, [0.9, None, None, 0.9, None, 0.9]).opened(0.5, rule)
    assert not visit(0, [0.6] * 3, other=0.7).opened(0.5, rule)  # it opens for somebody else
    torn = visit(0, [0.9] * 3)
    parted = Visit(0, torn.own, torn.other, torn.acquired, torn.at_s, np.array([0, 0, 1]))
    assert not parted.opened(0.5, rule)


def test_visits_take_the_place_of_enrolment_shots_and_carry_the_frr(rng) -> None:
    scores = DoorScores(
        mated=np.array([0.8, 0.8, 0.7], np.float32),
        mated_subject=np.array([0, 0, 1]),
        non_mated=rng.random(50).astype(np.float32) / 4,
        stranger=np.arange(50),
        best=rng.random(50).astype(np.float32) / 4,
        best_stranger=np.arange(50),
        best_subject=np.zeros(50, np.int64),
    )
    visits = [visit(0, [0.5, None, 0.6, 0.6, 0.6]), visit(0, [None, None])]
    merged = with_visits(scores, visits)
    assert sorted(merged.mated.tolist()) == pytest.approx([0.5, 0.6, 0.6, 0.6, 0.7])
    assert with_visits(scores, visits[1:]) is scores
    rates = transaction(merged, 0.45, TransactionRule(), 0.95, visits)
    assert (rates.frr, rates.frr_visits, rates.failures_to_acquire) == (0.5, 2, 0.5)
    assert (rates.far, rates.far_people) == (0.0, 50)
    assert rates.far_interval[1] > 0.05  # fifty people who were not accepted say no more
    again = transaction(merged, 0.45, TransactionRule(), 0.95, visits)
    assert again == rates
    drawn = transaction(merged, 0.45, TransactionRule(), 0.95, [])
    assert drawn.failures_to_acquire is None
    assert drawn.frr == 0
