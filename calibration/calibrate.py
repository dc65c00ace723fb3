"""From a gallery and a cohort to an operating point whose FMR bound keeps a promise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.bounds import clopper_pearson, upper_bound
from limen.calibration.fusion import fuse, leave_one_out_scores
from limen.calibration.operating_point import OperatingPoint
from limen.calibration.rates import just_above
from limen.errors import CalibrationError


class InsufficientEvidenceError(CalibrationError):
    """The comparisons at hand cannot carry the claim that was asked for."""

    def __init__(self, message: str, strongest_max_fmr: float) -> None:
        super().__init__(message)
        self.strongest_max_fmr = strongest_max_fmr


@dataclass(frozen=True, slots=True)
class DoorScores:
    """The scores of the door's own comparison: a probe against a subject's fused references."""

    mated: NDArray[np.float32]
    non_mated: NDArray[np.float32]


def door_scores(
    references: NDArray[np.float32],
    subject: NDArray[np.int64],
    subjects: int,
    cohort: NDArray[np.float32],
) -> DoorScores:
    """Mated scores by leaving one reference out; non-mated ones against the others and the cohort.

    references: (n, D), unit norm; subject: (n,), 0..subjects-1; cohort: (m, D), unit norm.
    """
    templates = fuse(references, subject, subjects)
    among = references @ templates.T
    strangers = among[subject[:, None] != np.arange(subjects)[None, :]]
    non_mated = np.concatenate([strangers, (cohort @ templates.T).ravel()])
    return DoorScores(leave_one_out_scores(references, subject, subjects), non_mated)


def allowed_false_matches(trials: int, max_fmr: float, confidence: float) -> int:
    """The most false matches in `trials` whose upper bound stays within `max_fmr`; -1 for none."""
    low, high = -1, max(0, math.ceil(trials * max_fmr))
    while low < high:  # the bound rises with the count
        middle = (low + high + 1) // 2
        if upper_bound(min(middle, trials), trials, confidence) <= max_fmr:
            low = middle
        else:
            high = middle - 1
    return low


def calibrate(
    scores: DoorScores,
    *,
    max_fmr: float,
    confidence: float,
    model_id: str,
    enrolled_subjects: int,
    cohort_subjects: int,
    calibrated_at: str,
    threshold_floor: float | None = None,
) -> OperatingPoint:
    """The lowest threshold whose FMR is at most `max_fmr` with `confidence`.

    The bound is Clopper and Pearson's, for independent comparisons. Comparisons that share a
    person are not: read it as optimistic when few people are enrolled.
    InsufficientEvidenceError where even no false match at all would not carry the claim.
    """
    if not 0 < max_fmr < 1:
        raise CalibrationError(f"max_fmr: expected between 0 and 1, found {max_fmr}")
    non_mated = np.sort(np.asarray(scores.non_mated, np.float64))
    trials = len(non_mated)
    if trials == 0:
        raise CalibrationError("no non-mated comparison: enrol somebody, or use a bundle's cohort")
    if not np.isfinite(non_mated).all() or not np.isfinite(scores.mated).all():
        raise CalibrationError("scores that are not finite: enrol the gallery again")
    allowed = allowed_false_matches(trials, max_fmr, confidence)
    if allowed < 0:
        strongest = upper_bound(0, trials, confidence)
        needed = math.ceil(math.log(1 - confidence) / math.log1p(-max_fmr))
        raise InsufficientEvidenceError(
            f"{trials} comparisons with strangers cannot show an FMR of {max_fmr:g}; "
            f"{needed} are needed. The strongest claim they carry is "
            f"'limen calibrate --max-fmr {_rounded_up(strongest):g}'",
            _rounded_up(strongest),
        )
    # With allowed < trials there is always a score that must be rejected, and all its ties with it.
    threshold = just_above(non_mated[trials - 1 - allowed], np.asarray(scores.non_mated).dtype)
    if threshold_floor is not None:
        threshold = max(threshold, threshold_floor)
    false_matches = int((non_mated >= threshold).sum())
    mated = np.asarray(scores.mated, np.float64)
    misses = int((mated < threshold).sum())
    return OperatingPoint(
        model_id=model_id,
        threshold=threshold,
        max_fmr=max_fmr,
        confidence=confidence,
        fmr=false_matches / trials,
        fmr_upper_bound=upper_bound(false_matches, trials, confidence),
        non_mated_comparisons=trials,
        fnmr=misses / len(mated) if len(mated) else None,
        fnmr_interval=clopper_pearson(misses, len(mated), confidence) if len(mated) else None,
        mated_comparisons=len(mated),
        enrolled_subjects=enrolled_subjects,
        cohort_subjects=cohort_subjects,
        calibrated_at=calibrated_at,
    )


def _rounded_up(value: float) -> float:
    """Two significant digits, never below `value`, so that the printed command succeeds."""
    digits = 1 - math.floor(math.log10(value))
    return math.ceil(value * 10.0**digits) / float(10.0**digits)
