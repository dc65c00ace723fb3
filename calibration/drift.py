"""Drift: does the door still see what it was calibrated on?

Pure: counts and values in, an answer out. Two measures, since with many visits any difference is
significant, and with few any is large: the population stability index says how large (PSI, Siddiqi,
Credit Risk Scorecards, 2006: above 0.2 the population has shifted), the Kolmogorov–Smirnov test
says that it is not chance. Both must agree. However often one looks, the chance of a false alarm
stays below `false_alarm_rate`: looks are taken when the number of visits has doubled, and the k-th
may spend rate / (k (k + 1)), which sums to the rate (an alpha-spending rule, Lan and DeMets,
Biometrika 70, 1983), divided among the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact, ks_2samp

from limen.errors import CalibrationError

SHIFTED_PSI = 0.2
BINS = 10
FIRST_LOOK = 30


def population_stability_index(
    expected: NDArray[np.floating], found: NDArray[np.floating], bins: int = BINS
) -> float:
    """sum (q - p) ln (q / p) over quantile bins of `expected`; 0 where both are alike.

    Both (n,), finite, n >= 1. Each bin counts half an observation more than it holds, so that an
    empty one stays finite.
    """
    if len(expected) == 0 or len(found) == 0:
        raise CalibrationError("the stability index needs values on both sides")
    edges = np.unique(np.quantile(expected, np.linspace(0, 1, bins + 1)[1:-1]))
    p, q = (
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) + 0.5
        for values in (np.asarray(expected), np.asarray(found))
    )
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def look_number(visits: int, first: int = FIRST_LOOK) -> int | None:
    """Which look is due at so many visits: 1 at `first`, 2 at twice that …; None before."""
    return None if visits < first else int(np.log2(visits / first)) + 1


def allowed_alarm(look: int, false_alarm_rate: float, features: int) -> float:
    """The significance level of one feature at the k-th look, k >= 1."""
    return false_alarm_rate / (look * (look + 1)) / features


@dataclass(frozen=True, slots=True)
class Feature:
    """What one feature says. psi is None for a rate."""

    name: str
    psi: float | None
    p_value: float
    before: float
    now: float
    drifted: bool


@dataclass(frozen=True, slots=True)
class DriftReport:
    """drifted: the features that moved, and so the reasons; visits: seen since the calibration."""

    visits: int
    look: int | None
    features: tuple[Feature, ...]

    @property
    def recalibrate(self) -> bool:
        """Whether the door should be calibrated again."""
        return any(feature.drifted for feature in self.features)

    def reasons(self) -> list[str]:
        """Why, a sentence each."""
        return [_reason(feature) for feature in self.features if feature.drifted]


@dataclass(frozen=True, slots=True)
class Values:
    """Values of a feature at calibration and since, one a visit, in the order of the visits."""

    name: str
    before: NDArray[np.float64]
    since: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Refusals:
    """Refused visits of all visits, in the first period after calibration and since."""

    before: tuple[int, int]
    since: tuple[int, int]


def detect_drift(
    features: list[Values], refusals: Refusals | None, visits: int, false_alarm_rate: float = 0.01
) -> DriftReport:
    """Judge all features at the look that is due.

    Values up to that look are judged, later ones wait for the next, so that looking again in
    between cannot raise the false alarm rate. CalibrationError for a rate outside 0 to 1.
    """
    if not 0 < false_alarm_rate < 1:
        raise CalibrationError(
            f"false_alarm_rate: expected between 0 and 1, found {false_alarm_rate}"
        )
    look = look_number(visits)
    if look is None:
        return DriftReport(visits, None, ())
    due = FIRST_LOOK * 2 ** (look - 1)
    usable = [f for f in features if len(f.before) >= BINS and len(f.since) > 0]
    level = allowed_alarm(look, false_alarm_rate, max(1, len(usable) + (refusals is not None)))
    found = []
    for feature in usable:
        since = feature.since[:due]
        psi = population_stability_index(feature.before, since)
        p_value = float(ks_2samp(feature.before, since, method="asymp").pvalue)
        found.append(
            Feature(
                feature.name,
                psi,
                p_value,
                float(np.median(feature.before)),
                float(np.median(since)),
                psi > SHIFTED_PSI and p_value < level,
            )
        )
    if refusals is not None and min(refusals.before[1], refusals.since[1]) > 0:
        (a, n), (b, m) = refusals.before, refusals.since
        p_value = float(fisher_exact([[a, n - a], [b, m - b]]).pvalue)
        found.append(Feature("refusals", None, p_value, a / n, b / m, p_value < level))
    return DriftReport(visits, look, tuple(found))


def _reason(feature: Feature) -> str:
    what = {
        "score": "strangers' best scores",
        "quality": "the quality of faces",
        "light": "the light on faces",
        "refusals": "the share of visits that were refused",
    }.get(feature.name, feature.name)
    way = "higher" if feature.now > feature.before else "lower"
    return (
        f"{what}: {way} than at calibration ({feature.before:.2f} then, {feature.now:.2f} now"
        f"{'' if feature.psi is None else f', stability index {feature.psi:.2f}'})"
    )
