"""Open-set identification against plain loops, and the gallery's size."""

import numpy as np
import pytest

from limen.calibration.identification import fnir, fpir, independent_fpir, what_if
from limen.errors import CalibrationError


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def test_rates_are_what_loops_count_ties_included() -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.random((40, 5)), 1).astype(np.float32)
    mate = rng.integers(0, 5, 40)
    for threshold in (0.0, 0.5, np.float32(0.9), 1.1):
        assert fpir(scores, threshold) == sum(row.max() >= threshold for row in scores) / 40
        for rank in (1, 2, 5):
            missed = 0
            for row, own in zip(scores, mate, strict=True):
                ahead = sum(row[j] >= row[own] for j in range(5) if j != own)
                missed += row[own] < threshold or ahead >= rank
            assert fnir(scores, mate, threshold, rank) == missed / 40


def test_the_independent_rate_is_its_closed_form() -> None:
    assert independent_fpir(1e-3, 50) == pytest.approx(1 - (1 - 1e-3) ** 50)
    assert independent_fpir(1e-12, 200) == pytest.approx(2e-10)
    assert independent_fpir(1.0, 3) == 1


def test_fpir_of_independent_comparisons_is_the_independent_rate() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random((20_000, 30)).astype(np.float32)
    assert fpir(scores, 0.999) == pytest.approx(independent_fpir(1e-3, 30), rel=0.1)


def test_fpir_rises_with_the_gallery_and_the_kept_threshold_follows() -> None:
    rng = np.random.default_rng(2)
    cohort = unit(rng.normal(size=(600, 24)))
    subject = np.arange(600) // 3
    rows = what_if(
        unit(rng.normal(size=(10, 24))), cohort, subject, 0.6, [1, 10, 40, 100],
        confidence=0.95, rng=rng, draws=3,
    )  # fmt: skip
    rates = [row.fpir for row in rows]
    assert rates == sorted(rates)
    assert rates[3] > 3 * rates[1]
    assert [row.threshold_kept for row in rows] == sorted(row.threshold_kept for row in rows)
    assert rows[1].threshold_kept == pytest.approx(0.6, abs=0.03)
    for row in rows:  # unrelated directions: nearly independent
        assert row.fpir == pytest.approx(row.independent, rel=0.35, abs=2e-3)
        assert row.fpir < row.fpir_upper_bound


@pytest.mark.parametrize("sizes", [[], [0], [5000]])
def test_sizes_that_the_cohort_cannot_play_are_refused(sizes) -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(CalibrationError, match="gallery sizes from 1 to 12"):
        what_if(
            unit(rng.normal(size=(2, 8))), unit(rng.normal(size=(40, 8))), np.arange(40) // 2,
            0.5, sizes, confidence=0.95, rng=rng,
        )  # fmt: skip


def test_scores_that_are_none_are_refused() -> None:
    for wrong in (np.zeros((0, 3)), np.zeros(3), np.full((2, 2), np.nan)):
        with pytest.raises(CalibrationError):
            fpir(wrong, 0.5)
    with pytest.raises(CalibrationError, match="rank"):
        fnir(np.zeros((2, 3)), np.zeros(2, int), 0.5, 4)
