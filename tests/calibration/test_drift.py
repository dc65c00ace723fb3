"""Drift: rarely where there is none, soon where there is some, and never forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.calibration.drift import WINDOW, DriftState, VisitMarks, shifts, stability_index
from limen.errors import CalibrationError


def visits(
    rng: np.random.Generator,
    count: int,
    *,
    score: float = 0.2,
    quality: float = 0.7,
    light: float = 120.0,
    refused: float = 0.05,
) -> tuple[VisitMarks, ...]:
    scores = np.clip(rng.normal(score, 0.08, count), -1, 1)
    qualities = np.clip(rng.normal(quality, 0.1, count), 0, 1)
    levels = np.clip(rng.normal(light, 25, count), 0, 255)
    refusals = rng.random(count) < refused
    return tuple(
        VisitMarks(score=s, quality=q, light=g, refused=r)
        for s, q, g, r in zip(
            scores.tolist(), qualities.tolist(), levels.tolist(), refusals.tolist(), strict=True
        )
    )


def watched(state: DriftState, marks: tuple[VisitMarks, ...], rate: float = 0.01) -> DriftState:
    for each in marks:
        state = state.after(each, rate)
    return state


def test_false_alarms_stay_within_their_rate_over_repeated_looks() -> None:
    """300 doors that do not drift, 8 looks each, at a rate that can be measured."""
    rate, alarms = 0.2, 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        baseline = visits(rng, WINDOW)
        for look in range(1, 9):
            level = rate / (look * (look + 1)) / 4
            if shifts(baseline, visits(rng, WINDOW), level):
                alarms += 1
                break
    assert alarms / 300 <= rate + 0.02


def test_smirnov_alone_keeps_the_rate_that_both_measures_share(monkeypatch) -> None:
    """The bound is the test's own: with the index asking for nothing, it still holds."""
    monkeypatch.setattr("limen.calibration.drift.SHIFTED_INDEX", -1.0)
    monkeypatch.setattr("limen.calibration.drift.SHIFTED_SHARE", -1.0)
    rate, alarms = 0.2, 0
    for seed in range(100):
        rng = np.random.default_rng(1000 + seed)
        baseline = visits(rng, WINDOW, refused=0.3)
        alarms += any(
            shifts(baseline, visits(rng, WINDOW, refused=0.3), rate / (k * (k + 1)) / 4)
            for k in range(1, 7)
        )
    assert 0.02 < alarms / 100 <= rate + 0.04


@pytest.mark.parametrize(
    ("moved", "words"),
    [
        ({"score": 0.3}, "strangers' best scores: higher"),
        ({"quality": 0.55}, "the quality of faces: lower"),
        ({"light": 70.0}, "the light: lower"),
        ({"refused": 0.4}, "visits that were refused: higher"),
    ],
)
def test_real_shift_is_noticed_at_the_first_full_window_of_it(moved, words) -> None:
    noticed = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        calm = watched(DriftState(point="p"), visits(rng, 3 * WINDOW))
        if calm.recalibrate:
            continue
        state = watched(calm, visits(rng, WINDOW, **moved))
        noticed += state.recalibrate and words in state.reasons[0]
    assert noticed >= 9


def test_late_shift_is_noticed_after_years() -> None:
    rng = np.random.default_rng(0)
    state = watched(DriftState(point="p"), visits(rng, WINDOW))
    state = state.model_copy(update={"looks": 500})
    assert watched(state, visits(rng, WINDOW, light=60.0)).recalibrate


def test_reasons_stay_until_the_next_calibration_and_no_longer() -> None:
    rng = np.random.default_rng(1)
    state = watched(DriftState(point="p"), visits(rng, WINDOW) + visits(rng, WINDOW, light=40.0))
    assert state.recalibrate
    later = watched(state, visits(rng, WINDOW))
    assert later.reasons == state.reasons
    stored = later.model_dump(mode="json")
    assert DriftState.from_stored(stored, "p") == later
    assert DriftState.from_stored(stored, "another") == DriftState(point="another")
    for damaged in (None, [], {"point": "p", "visits": -1}, {**stored, "baseline": [{}]}):
        assert DriftState.from_stored(damaged, "p") == DriftState(point="p")


def test_memory_is_bounded() -> None:
    rng = np.random.default_rng(2)
    state = watched(DriftState(point="p"), visits(rng, 7 * WINDOW + 99))
    assert (len(state.baseline), len(state.window), state.looks) == (WINDOW, 99, 6)
    assert state.visits == 7 * WINDOW + 99
    assert len(state.model_dump_json()) < 25_000


def test_visits_without_scores_are_no_evidence_of_scores() -> None:
    rng = np.random.default_rng(3)
    alone = tuple(v.model_copy(update={"score": None}) for v in visits(rng, WINDOW))
    assert shifts(alone, visits(rng, WINDOW, score=0.9), 0.01) == ()


def test_stability_index_is_the_plain_sum_less_chance() -> None:
    before = np.arange(1000.0)
    since = np.concatenate([np.arange(500.0), np.arange(500.0)])
    # Upper five bins empty: each bin counts half a value more.
    p = np.full(10, 100.5) / 1005
    q = np.concatenate([np.full(5, 200.5), np.full(5, 0.5)]) / 1005
    plain = float(((q - p) * np.log(q / p)).sum())
    assert stability_index(before, since) == pytest.approx(plain - 9 * 2 / 1000)
    drawn = [
        stability_index(*np.random.default_rng(seed).normal(size=(2, 100))) for seed in range(200)
    ]
    assert abs(float(np.mean(drawn))) < 0.03
    for bad in ([], [np.nan]):
        with pytest.raises(CalibrationError):
            stability_index(bad, [1.0])
    with pytest.raises(CalibrationError, match="false_alarm_rate"):
        DriftState(point="p").after(visits(np.random.default_rng(0), 1)[0], 0.0)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=60))
def test_stability_index_of_one_group_with_itself_is_only_chance(values) -> None:
    assert stability_index(values, values) <= 1e-9
