"""Scores that mean something: log-likelihood ratios, fitted and judged.

A log-likelihood ratio says how many times likelier a score is if probe and reference are of one
person than if they are of two (natural logarithm). Brümmer and du Preez, "Application-independent
evaluation of speaker detection", Computer Speech and Language 20, 2006.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.scores import Scores
from limen.errors import CalibrationError


@dataclass(frozen=True, slots=True)
class LogisticRatio:
    """log LR = intercept + slope * score. slope > 0."""

    intercept: float
    slope: float

    def __call__(self, scores: Scores | float) -> NDArray[np.float64]:
        """The log-likelihood ratios of scores, any shape."""
        return self.intercept + self.slope * np.asarray(scores, np.float64)


def cllr(mated: Scores, non_mated: Scores) -> float:
    """The cost of log-likelihood ratios, in bits: 0 is perfect, 1 is worth nothing.

    Both (n,), n >= 1, natural logarithms; infinite ones are allowed where they are right, and cost
    infinitely where they are wrong. CalibrationError for an empty class or NaN.
    """
    m, n = _checked(mated, "mated"), _checked(non_mated, "non-mated")
    return float((np.logaddexp(0, -m).mean() + np.logaddexp(0, n).mean()) / (2 * np.log(2)))


def fit_logistic(mated: Scores, non_mated: Scores) -> LogisticRatio:
    """Logistic regression with both classes weighed alike, which is what makes it a ratio.

    A weak pull on the slope (one score of each class's worth of it) keeps separable scores finite.
    CalibrationError for an empty class, for scores that are not finite, or where higher scores are
    not the more mated ones.
    """
    from scipy.optimize import minimize  # not at a door, which reads ratios and fits none

    m, n = _checked(mated, "mated"), _checked(non_mated, "non-mated")
    if not (np.isfinite(m).all() and np.isfinite(n).all()):
        raise CalibrationError("a ratio is fitted to finite scores only")
    both = np.concatenate([m, n])
    centre, spread = float(both.mean()), float(both.std()) or 1.0
    x_m, x_n = (m - centre) / spread, (n - centre) / spread
    pull = 1e-2 / min(len(m), len(n))

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        intercept, slope = parameters
        a, b = intercept + slope * x_m, intercept + slope * x_n
        value = np.logaddexp(0, -a).mean() + np.logaddexp(0, b).mean() + pull * slope**2
        down, up = -_logistic(-a) / len(m), _logistic(b) / len(n)
        gradient = np.array([down.sum() + up.sum(), down @ x_m + up @ x_n + 2 * pull * slope])
        return float(value), gradient

    found = minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS").x
    if not found[1] > 0:
        raise CalibrationError(
            "mated scores are no higher than non-mated ones, so no score speaks for a match: "
            "look at the enrolment"
        )
    slope = float(found[1]) / spread
    return LogisticRatio(float(found[0]) - slope * centre, slope)


def isotonic_log_ratios(
    mated: Scores, non_mated: Scores
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The log-likelihood ratios of the scores themselves after the best monotone fit.

    Pool adjacent violators with both classes weighed alike; equal scores get equal ratios.
    Returns those of `mated` and of `non_mated`, each in the order given; ±inf at the ends.
    """
    from scipy.optimize import isotonic_regression

    m, n = _checked(mated, "mated"), _checked(non_mated, "non-mated")
    values, place = np.unique(np.concatenate([m, n]), return_inverse=True)
    mated_at = np.bincount(place[: len(m)], minlength=len(values)) / len(m)
    non_mated_at = np.bincount(place[len(m) :], minlength=len(values)) / len(n)
    weight = mated_at + non_mated_at
    share = isotonic_regression(mated_at / weight, weights=weight).x
    with np.errstate(divide="ignore"):
        ratio = np.log(share) - np.log1p(-share)
    return ratio[place[: len(m)]], ratio[place[len(m) :]]


def strangers_as_alike(non_mated: Scores, score: float) -> tuple[float, bool]:
    """How many strangers there are to one who looks at least as much alike: "1 in ...".

    non_mated: (n,), comparisons with one subject or many. Returns the number and whether it was
    observed; where no score is as high, n + 1 is a lower limit of it.
    """
    values = _checked(non_mated, "non-mated")
    count = int((values >= score).sum())
    return (len(values) / count, True) if count else (float(len(values) + 1), False)


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


def _checked(scores: Scores, name: str) -> NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or values.size == 0 or np.isnan(values).any():
        raise CalibrationError(f"{name} scores: expected one or more numbers")
    return values
