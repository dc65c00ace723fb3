"""Confidence bounds of a proportion, and what a second test would find.

scipy is imported where it is used: a door reads operating points, but bounds nothing, and would hold
60 MB of it for nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limen.errors import CalibrationError

_KNOTS = 200


def clopper_pearson(errors: float, trials: float, confidence: float) -> tuple[float, float]:
    """Two-sided interval of a proportion, each side missed with at most (1 - confidence) / 2.

    Exact for independent trials: Clopper and Pearson, Biometrika 26(4), 1934. Counts may be
    fractions, as effective ones are (Korn and Graubard, Survey Methodology 24(2), 1998).
    """
    from scipy.stats import beta

    tail = (1 - _checked(errors, trials, confidence)) / 2
    low = 0.0 if errors == 0 else float(beta.ppf(tail, errors, trials - errors + 1))
    high = 1.0 if errors >= trials else float(beta.ppf(1 - tail, errors + 1, trials - errors))
    return low, high


def upper_bound(errors: float, trials: float, confidence: float) -> float:
    """One-sided upper bound of a proportion, after Clopper and Pearson.

    With no errors it is 1 - (1 - confidence) ** (1 / trials): about 3 / trials at 95 %, the rule
    of three.
    """
    from scipy.stats import beta

    _checked(errors, trials, confidence)
    return 1.0 if errors >= trials else float(beta.ppf(confidence, errors + 1, trials - errors))


def prediction_bound(errors: float, trials: float, confidence: float) -> float:
    """The error rate that a second test of the same size stays within, with `confidence`.

    errors of trials: what this test found; fractions are allowed. With no errors it is about
    4.3 / trials at 95 %: a test that found none does not say that the next finds none.
    See `predicted_errors`.
    """
    _checked(errors, trials, confidence)
    return min(1.0, float(predicted_errors(errors, confidence)) / trials)


def predicted_errors(errors: ArrayLike, confidence: float) -> NDArray[np.float64]:
    """The number of errors that a second test of the same size stays within, element by element.

    Rare errors are counted as Poisson. Given the sum of both tests' errors, this test's share of
    them is binomial with one half, whatever the rate: the answer y solves
    P(Binomial(errors + y, 1/2) <= errors) = 1 - confidence. Thatcher, JRSS B 26(2), 1964; Nelson,
    Applied Statistics 19(2), 1970.
    """
    from scipy.special import btdtria

    # P(Binomial(m, 1/2) <= x) is the regularised incomplete beta I_{1/2}(m - x, x + 1).
    found = np.asarray(errors, np.float64)
    if found.size <= 2 * _KNOTS:
        return np.asarray(btdtria(1 - confidence, found + 1, 0.5), np.float64)
    # Inverting is slow, and the answer is smooth over the logarithm of the count: a cubic spline
    # through it is off by less than one part in a hundred thousand.
    from scipy.interpolate import CubicSpline

    knots = np.linspace(0, np.log1p(found.max()), _KNOTS)
    exact = btdtria(1 - confidence, np.expm1(knots) + 1, 0.5)
    return np.asarray(np.exp(CubicSpline(knots, np.log(exact))(np.log1p(found))), np.float64)


def _checked(errors: float, trials: float, confidence: float) -> float:
    if not (trials > 0 and 0 <= errors <= trials):
        raise CalibrationError(f"expected 0 <= errors <= trials, found {errors} of {trials}")
    if not 0 < confidence < 1:
        raise CalibrationError(f"confidence: expected between 0 and 1, found {confidence}")
    return confidence
