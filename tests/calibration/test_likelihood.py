"""Log-likelihood ratios and figures of merit, against closed forms and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limen.calibration.figures import d_prime, figures, min_cllr
from limen.calibration.likelihood import (
    cllr,
    fit_logistic,
    isotonic_log_ratios,
    strangers_as_alike,
)
from limen.errors import CalibrationError

RNG = np.random.default_rng(0)
coarse = st.lists(st.integers(-5, 5).map(lambda value: value / 5), min_size=1, max_size=30)


def test_ratios_that_say_nothing_cost_one_bit_and_sure_ones_nothing() -> None:
    assert cllr(np.zeros(3), np.zeros(5)) == pytest.approx(1)
    assert cllr(np.full(3, np.inf), np.full(5, -np.inf)) == 0
    assert cllr(np.array([-np.inf]), np.array([0.0])) == np.inf
    # One mated ratio of 3 (ln 3) and one non-mated of 1/3: both cost log2(1 + 1/3).
    assert cllr(np.log([3.0]), np.log([1 / 3])) == pytest.approx(np.log2(4 / 3))


def test_logistic_regression_of_two_gaussians_is_the_closed_form() -> None:
    # Equal variances: log LR = (mean difference / variance) (score - midpoint).
    mated, non_mated = RNG.normal(0.6, 0.2, 40_000), RNG.normal(0.2, 0.2, 40_000)
    fitted = fit_logistic(mated, non_mated)
    assert fitted.slope == pytest.approx(0.4 / 0.2**2, rel=0.03)
    assert fitted(0.4) == pytest.approx(0, abs=0.05)


def test_logistic_regression_is_scikit_learns_with_balanced_classes() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    mated, non_mated = RNG.normal(0.5, 0.2, 60), RNG.normal(0.1, 0.15, 3000)
    fitted = fit_logistic(mated, non_mated)
    model = linear_model.LogisticRegression(C=1e6, class_weight="balanced", max_iter=1000)
    x = np.concatenate([mated, non_mated])[:, None]
    model.fit(x, np.arange(len(x)) < 60)
    assert fitted.slope == pytest.approx(model.coef_[0, 0], rel=0.02)
    assert fitted.intercept == pytest.approx(model.intercept_[0], rel=0.02)


def test_separable_scores_keep_a_finite_ratio_and_reversed_ones_are_refused() -> None:
    fitted = fit_logistic(np.array([0.8, 0.9]), np.array([0.1, 0.2, 0.3]))
    assert np.isfinite(fitted(0.9))
    assert fitted(0.9) > fitted(0.2)
    with pytest.raises(CalibrationError, match="no higher"):
        fit_logistic(np.array([0.1, 0.2]), np.array([0.8, 0.9]))


@given(coarse, coarse)
@settings(deadline=None)
def test_isotonic_ratios_are_scikit_learns(mated, non_mated) -> None:
    isotonic = pytest.importorskip("sklearn.isotonic")
    m, n = isotonic_log_ratios(np.array(mated), np.array(non_mated))
    x = np.array(mated + non_mated)
    weight = np.array([1 / len(mated)] * len(mated) + [1 / len(non_mated)] * len(non_mated))
    y = np.array([1.0] * len(mated) + [0.0] * len(non_mated))
    share = isotonic.IsotonicRegression().fit(x, y, weight).predict(x)
    with np.errstate(divide="ignore"):
        expected = np.log(share) - np.log1p(-share)
    assert np.allclose(1 / (1 + np.exp(-np.concatenate([m, n]))), 1 / (1 + np.exp(-expected)))


@given(coarse, coarse)
@settings(deadline=None)
def test_no_monotone_recalibration_costs_less_than_the_minimum(mated, non_mated) -> None:
    m, n = np.array(mated), np.array(non_mated)
    least = min_cllr(m, n)
    for slope in (0.0, 0.5, 2.0):
        assert least <= cllr(slope * m, slope * n) + 1e-9
    assert 0 <= least <= 1 + 1e-9


def test_d_prime_of_two_gaussians_is_the_closed_form() -> None:
    mated, non_mated = RNG.normal(3, 1, 100_000), RNG.normal(0, 2, 100_000)
    assert d_prime(mated, non_mated) == pytest.approx(3 / np.sqrt(2.5), rel=0.02)
    for wrong in ([1.0], [1.0, np.inf], [1.0, np.nan]):
        with pytest.raises(CalibrationError):
            d_prime(np.array(wrong), np.array([0.0, 1.0]))
    with pytest.raises(CalibrationError, match="no scale"):
        d_prime(np.ones(2), np.zeros(2))


def test_figures_agree_with_each_other() -> None:
    mated, non_mated = RNG.normal(2, 1, 3000), RNG.normal(0, 1, 30_000)
    found = figures(mated, non_mated)
    assert found.fmr100 == 1 - found.tar_at_fmr_1e_2
    assert found.fmr100 <= found.fmr1000 <= found.zero_fmr
    assert found.eer == pytest.approx(0.1587, abs=0.01)
    assert found.auc == pytest.approx(0.9214, abs=0.01)  # Phi(sqrt 2)
    assert figures(np.ones(3), np.zeros(3)).d_prime is None
    for mated, non_mated in (([], [0.1]), ([0.1], []), ([np.nan], [0.1])):
        with pytest.raises(CalibrationError):
            figures(np.array(mated), np.array(non_mated))


def test_one_in_how_many_strangers_looks_as_much_alike() -> None:
    scores = np.arange(1000) / 1000
    assert strangers_as_alike(scores, 0.99) == (100.0, True)
    assert strangers_as_alike(scores, 1.5) == (1001.0, False)
