"""Confidence bounds of a proportion."""

from __future__ import annotations

from scipy.stats import beta

from limen.errors import CalibrationError


def clopper_pearson(errors: int, trials: int, confidence: float) -> tuple[float, float]:
    """Two-sided interval of a proportion, each side missed with at most (1 - confidence) / 2.

    Exact for independent trials: Clopper and Pearson, Biometrika 26(4), 1934.
    """
    tail = (1 - _checked(errors, trials, confidence)) / 2
    low = 0.0 if errors == 0 else float(beta.ppf(tail, errors, trials - errors + 1))
    high = 1.0 if errors == trials else float(beta.ppf(1 - tail, errors + 1, trials - errors))
    return low, high


def upper_bound(errors: int, trials: int, confidence: float) -> float:
    """One-sided upper bound of a proportion, after Clopper and Pearson.

    With no errors it is 1 - (1 - confidence) ** (1 / trials): about 3 / trials at 95 %, the rule
    of three.
    """
    _checked(errors, trials, confidence)
    return 1.0 if errors == trials else float(beta.ppf(confidence, errors + 1, trials - errors))


def _checked(errors: int, trials: int, confidence: float) -> float:
    if trials < 1 or not 0 <= errors <= trials:
        raise CalibrationError(f"expected 0 <= errors <= trials, found {errors} of {trials}")
    if not 0 < confidence < 1:
        raise CalibrationError(f"confidence: expected between 0 and 1, found {confidence}")
    return confidence
