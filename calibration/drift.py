"""Drift: does the door still see what it saw after it was calibrated?

Pure, and bounded: the first `WINDOW` visits after a calibration are the baseline, the visits since
fill one window after the other, and each full window is one look. Two measures must agree, since
with many visits any difference is significant and with few any is large: the population stability
index says how large (Siddiqi, Credit Risk Scorecards, 2006: above 0.2 the population has shifted),
the two-sample Kolmogorov–Smirnov test that it is not chance.

False alarms: the k-th look may spend rate / (k (k + 1)), which sums to the rate over endless looks
(alpha spending, Lan and DeMets, Biometrika 70, 1983), shared among the features. So of doors that
do not drift at most `false_alarm_rate` ever raise an alarm, however long they are watched. That
counts visits as independent; those of one household are not quite.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.errors import CalibrationError

WINDOW = 100
MIN_VALUES = 30
BINS = 10
SHIFTED_INDEX = 0.2
SHIFTED_SHARE = 0.1
FALSE_ALARM_RATE = 0.01
FEATURES = {
    "score": "strangers' best scores",
    "quality": "the quality of faces",
    "light": "the light",
}
REFUSALS = "the share of visits that were refused"


class VisitMarks(BaseModel):
    """What is remembered of a visit.

    score: the highest one that was no match, or of somebody other than the match; None where there
    is none; quality: mean, 0 to 1; light: mean grey level, 0 to 255; refused: by the votes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    score: float | None = Field(None, ge=-1.01, le=1.01)
    quality: float = Field(ge=0, le=1)
    light: float = Field(ge=0, le=255)
    refused: bool


_Marks = Field((), max_length=WINDOW)


class DriftState(BaseModel):
    """All that is kept between visits. point: what tells the operating point it counts from.

    baseline, window: at most `WINDOW` visits each; visits: how many since the calibration; looks:
    how many were taken; reasons: why to calibrate again, kept until that is done.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    point: str = Field(max_length=200)
    baseline: tuple[VisitMarks, ...] = _Marks
    window: tuple[VisitMarks, ...] = _Marks
    visits: int = Field(0, ge=0)
    looks: int = Field(0, ge=0)
    reasons: tuple[str, ...] = Field((), max_length=20)

    @property
    def recalibrate(self) -> bool:
        """Whether the door should be calibrated again."""
        return bool(self.reasons)

    @classmethod
    def from_stored(cls, value: object, point: str) -> Self:
        """The stored state where it is of this point and whole, else a new one."""
        try:
            found = cls.model_validate(value)
        except ValidationError:
            return cls(point=point)
        return found if found.point == point else cls(point=point)

    def after(self, marks: VisitMarks, false_alarm_rate: float = FALSE_ALARM_RATE) -> Self:
        """The state after one more visit; a look is taken where it fills the window.

        CalibrationError for a rate that is not between 0 and 1.
        """
        if not 0 < false_alarm_rate < 1:
            raise CalibrationError(
                f"false_alarm_rate: expected between 0 and 1, found {false_alarm_rate}"
            )
        seen: dict[str, object] = {"visits": self.visits + 1}
        if len(self.baseline) < WINDOW:
            return self.model_copy(update={**seen, "baseline": (*self.baseline, marks)})
        window = (*self.window, marks)
        if len(window) < WINDOW:
            return self.model_copy(update={**seen, "window": window})
        look = self.looks + 1
        level = false_alarm_rate / (look * (look + 1)) / (len(FEATURES) + 1)
        found = shifts(self.baseline, window, level)
        kept = found or self.reasons  # the newest words, and none is forgotten
        return self.model_copy(update={**seen, "window": (), "looks": look, "reasons": kept})


def shifts(
    before: tuple[VisitMarks, ...], since: tuple[VisitMarks, ...], level: float
) -> tuple[str, ...]:
    """What moved between two groups of visits, a sentence each; level: significance of each test."""
    from scipy.stats import fisher_exact, ks_2samp  # a look is rare, and a door's memory is small

    reasons = []
    for name, words in FEATURES.items():
        old, new = (
            np.array([value for m in marks if (value := getattr(m, name)) is not None])
            for marks in (before, since)
        )
        if min(len(old), len(new)) < MIN_VALUES:
            continue
        index = stability_index(old, new)
        if index > SHIFTED_INDEX and float(ks_2samp(old, new).pvalue) < level:
            reasons.append(_sentence(words, float(np.median(old)), float(np.median(new)), index))
    (a, n), (b, m) = ((sum(v.refused for v in marks), len(marks)) for marks in (before, since))
    if n and m and abs(a / n - b / m) > SHIFTED_SHARE:
        chance = float(fisher_exact([[a, n - a], [b, m - b]]).pvalue)
        if chance < level:
            reasons.append(_sentence(REFUSALS, a / n, b / m, None))
    return tuple(reasons)


def stability_index(before: ArrayLike, since: ArrayLike, bins: int = BINS) -> float:
    """The population stability index over quantile bins of `before`, less what chance gives.

    sum (q - p) ln (q / p), each bin counting half a value more than it holds; of two samples of
    one population it is about (bins - 1) (1 / n + 1 / m) (Yurdakul and Naranjo, Journal of Risk
    Model Validation 14, 2020), which is taken off. Both (n,), finite, else CalibrationError.
    """
    old, new = np.asarray(before, np.float64), np.asarray(since, np.float64)
    if not (len(old) and len(new) and np.isfinite(old).all() and np.isfinite(new).all()):
        raise CalibrationError("the stability index needs finite values on both sides")
    edges = np.unique(np.quantile(old, np.linspace(0, 1, bins + 1)[1:-1]))
    p, q = (
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) + 0.5
        for values in (old, new)
    )
    p, q = p / p.sum(), q / q.sum()
    by_chance = len(edges) * (1 / len(old) + 1 / len(new))
    return float(((q - p) * np.log(q / p)).sum() - by_chance)


def _sentence(words: str, before: float, now: float, index: float | None) -> str:
    """How a figure moved. A distribution may widen around the same median."""
    way = "higher" if now > before else "lower" if now < before else "more spread"
    told = f"{words}: {way} than after the calibration ({before:.3g} then, {now:.3g} now"
    return told + (")" if index is None else f", stability index {index:.2f})")
