"""Error rates of a comparison (ISO/IEC 19795-1): FMR, FNMR, their trade-off.

The decision rule is `score >= threshold` is a match, everywhere. A threshold is always a score
that could occur, or just above the highest one; ties are accepted or rejected together, so "at
most the requested FMR" holds on discrete scores too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.calibration.scores import Scores
from limen.errors import CalibrationError


def _checked(scores: Scores, name: str) -> NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise CalibrationError(f"{name} scores: expected one or more, found shape {values.shape}")
    if np.isnan(values).any():
        raise CalibrationError(f"{name} scores: {int(np.isnan(values).sum())} are not a number")
    return values


def _rejectable(non_mated: Scores) -> NDArray[np.float64]:
    values = _checked(non_mated, "non-mated")
    if np.isposinf(values).any():
        raise CalibrationError(
            f"non-mated scores: {int(np.isposinf(values).sum())} are infinite, and no threshold "
            "rejects them: look at what made them"
        )
    return values


def false_match_rate(non_mated: Scores, threshold: float) -> float:
    """Share of non-mated scores, (n,), n >= 1, that reach `threshold`."""
    return float(np.mean(_checked(non_mated, "non-mated") >= threshold))


def false_non_match_rate(mated: Scores, threshold: float) -> float:
    """Share of mated scores, (n,), n >= 1, that stay below `threshold`."""
    return float(np.mean(_checked(mated, "mated") < threshold))


def threshold_at_fmr(non_mated: Scores, max_fmr: float) -> float:
    """Return the lowest threshold whose observed FMR is at most `max_fmr`.

    non_mated: shape (n,), n >= 1. CalibrationError unless 0 <= max_fmr < 1, and for a score of
    +inf, which no threshold rejects.
    The threshold is the next number above the highest score that must be rejected, so that FNMR
    is as low as the promise allows, and a tie with that score is rejected with it.
    """
    if not 0 <= max_fmr < 1:
        raise CalibrationError(f"max_fmr: expected 0 or more and less than 1, found {max_fmr}")
    scores = np.sort(_rejectable(non_mated))
    # Nudged before the floor, so that 0.3 * 10 (2.9999…) allows the three matches that it means.
    allowed = int(np.floor(max_fmr * len(scores) * (1 + 1e-12)))
    highest_rejected = scores[len(scores) - 1 - allowed]
    return just_above(highest_rejected, np.asarray(non_mated).dtype)


def just_above(score: float, dtype: np.dtype[Any]) -> float:
    """The next number above `score` that scores of `dtype` can be.

    For float32 scores it is a float32 itself, so that no comparison rounds it back onto the tie.
    """
    kind = np.float32 if dtype == np.float32 else np.float64
    return float(np.nextafter(kind(score), kind(np.inf)))


def fnmr_at_fmr(mated: Scores, non_mated: Scores, max_fmr: float) -> float:
    """FNMR at the lowest threshold whose observed FMR is at most `max_fmr`."""
    return false_non_match_rate(mated, threshold_at_fmr(non_mated, max_fmr))


def tar_at_fmr(mated: Scores, non_mated: Scores, max_fmr: float) -> float:
    """True accept rate, 1 - FNMR, at the lowest threshold whose observed FMR is at most `max_fmr`."""
    return 1 - fnmr_at_fmr(mated, non_mated, max_fmr)


def roc_curve(
    mated: Scores, non_mated: Scores
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The DET curve as ROC: thresholds (k,), falling, with FMR (k,) and TAR (k,), both rising."""
    thresholds, fmr, fnmr = det_curve(mated, non_mated)
    return thresholds[::-1], fmr[::-1], 1 - fnmr[::-1]


def det_curve(
    mated: Scores, non_mated: Scores
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """All operating points: thresholds (k,), rising, with FMR (k,) and FNMR (k,) at each.

    The thresholds are the distinct scores and one above the highest, so the curve ends at FMR 0.
    CalibrationError for an empty class, NaN, and a non-mated score of +inf.
    """
    m = np.sort(_checked(mated, "mated"))
    n = np.sort(_rejectable(non_mated))
    distinct = np.unique(np.concatenate([m, n]))
    thresholds = np.append(distinct, np.nextafter(distinct[-1], np.inf))
    fmr = 1 - np.searchsorted(n, thresholds, side="left") / len(n)
    fnmr = np.searchsorted(m, thresholds, side="left") / len(m)
    return thresholds, fmr, fnmr


def equal_error_rate(mated: Scores, non_mated: Scores) -> float:
    """The rate at which FMR and FNMR are equal: their mean where the curves cross.

    Between two operating points the crossing is interpolated linearly.
    """
    _, fmr, fnmr = det_curve(mated, non_mated)
    difference = fnmr - fmr  # rises from at most 0 to 1
    right = int(np.argmax(difference >= 0))
    if right == 0 or difference[right] == 0:
        return float((fmr[right] + fnmr[right]) / 2)
    left = right - 1
    share = -difference[left] / (difference[right] - difference[left])
    return float(fmr[left] + share * (fmr[right] - fmr[left]))


def roc_auc(mated: Scores, non_mated: Scores) -> float:
    """Probability that a mated score exceeds a non-mated one, ties counted half."""
    m, n = _checked(mated, "mated"), np.sort(_checked(non_mated, "non-mated"))
    below = np.searchsorted(n, m, side="left")
    upto = np.searchsorted(n, m, side="right")
    return float((below + upto).sum() / (2 * len(m) * len(n)))
