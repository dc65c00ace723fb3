"""From the door's scores to an operating point whose bound keeps its promise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limen.calibration.bounds import clopper_pearson, predicted_errors
from limen.calibration.cluster_prior import ClusterPrior
from limen.calibration.clusters import ALLOWANCE, Tail, design_effect, tail_evidence
from limen.calibration.door_scores import DoorScores, door_scores
from limen.calibration.operating_point import OperatingPoint
from limen.calibration.rates import just_above
from limen.errors import CalibrationError

__all__ = ["DoorScores", "InsufficientEvidenceError", "calibrate", "door_scores"]


class InsufficientEvidenceError(CalibrationError):
    """The comparisons at hand cannot carry the claim that was asked for.

    strongest: the lowest rate, of two digits, that they can; missing_comparisons and
    missing_strangers: about how many more would carry the claim, with comparisons as alike as
    these; kind: 'fmr' or 'fpir', which claim it was.
    """

    def __init__(
        self,
        message: str,
        strongest: float,
        kind: str = "fmr",
        missing_comparisons: int = 0,
        missing_strangers: int = 0,
    ) -> None:
        super().__init__(message)
        self.strongest_max_fmr = strongest
        self.kind = kind
        self.missing_comparisons = missing_comparisons
        self.missing_strangers = missing_strangers


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
    below_floor: bool = False,
    max_fpir: float | None = None,
    probe_frames: int = 1,
    lookalikes_accepted: bool = False,
    notes: Sequence[str] = (),
) -> OperatingPoint:
    """The lowest threshold whose FMR is at most `max_fmr` with `confidence`.

    The bound is on what a test with as many new strangers would find, counts comparisons of one
    stranger together, and holds at every higher threshold too (`limen.calibration.clusters`). With
    max_fpir, the rate at which a stranger is taken for anybody of the gallery is bounded alike, and
    the higher threshold counts. threshold_floor is not undercut unless `below_floor`.
    InsufficientEvidenceError where even no false match at all would not carry the claim.
    """
    _check_rate(max_fmr, "max_fmr")
    if max_fpir is not None:
        _check_rate(max_fpir, "max_fpir")
    if not 0 < confidence < 1:
        raise CalibrationError(f"confidence: expected between 0 and 1, found {confidence}")
    if len(scores.non_mated) == 0:
        raise CalibrationError("no non-mated comparison: enrol somebody, or use a bundle's cohort")
    if not np.isfinite(scores.non_mated).all() or not np.isfinite(scores.mated).all():
        raise CalibrationError("scores that are not finite: enrol the gallery again")
    threshold = threshold_for(scores, max_fmr=max_fmr, max_fpir=max_fpir, confidence=confidence)
    undercut = threshold_floor is not None and threshold < threshold_floor
    if threshold_floor is not None and undercut and not below_floor:
        threshold = threshold_floor
    return OperatingPoint(
        model_id=model_id,
        threshold=threshold,
        max_fmr=max_fmr,
        max_fpir=max_fpir,
        confidence=confidence,
        enrolled_subjects=enrolled_subjects,
        cohort_subjects=cohort_subjects,
        probe_frames=probe_frames,
        below_floor=undercut and below_floor,
        lookalikes_accepted=lookalikes_accepted,
        notes=tuple(notes),
        calibrated_at=calibrated_at,
        **evidence_at(scores, threshold, confidence),
    )


def threshold_for(
    scores: DoorScores, *, max_fmr: float, max_fpir: float | None, confidence: float
) -> float:
    """The lowest threshold that keeps both rates. InsufficientEvidenceError where none can."""
    threshold = _threshold(
        scores.non_mated, scores.stranger, scores.prior, max_fmr, confidence, "fmr"
    )
    if max_fpir is None:
        return threshold
    return max(
        threshold,
        _threshold(
            scores.best, scores.best_stranger, scores.best_prior, max_fpir, confidence, "fpir"
        ),
    )


def evidence_at(scores: DoorScores, threshold: float, confidence: float) -> dict[str, object]:
    """The rates at a threshold with their bounds, as fields of an operating point."""
    fmr, fmr_bound, effective, matched = _bounded(
        scores.non_mated, scores.stranger, scores.prior, threshold, confidence
    )
    found: dict[str, object] = {
        "fmr": fmr,
        "fmr_upper_bound": fmr_bound,
        "non_mated_comparisons": len(scores.non_mated),
        "effective_comparisons": effective,
        "strangers_matched": matched,
        "mated_comparisons": len(scores.mated),
        "mated_subjects": len(np.unique(scores.mated_subject)),
    }
    if len(scores.best):
        found["fpir"], found["fpir_upper_bound"], _, _ = _bounded(
            scores.best, scores.best_stranger, scores.best_prior, threshold, confidence
        )
    if len(scores.mated):
        missed = np.asarray(scores.mated, np.float64) < threshold
        effect = design_effect(missed, scores.mated_subject)
        trials = len(missed) / effect
        found["fnmr"] = float(missed.mean())
        found["fnmr_interval"] = clopper_pearson(float(missed.sum()) / effect, trials, confidence)
    return found


def _threshold(
    scores: NDArray[np.float32],
    stranger: NDArray[np.int64],
    prior: ClusterPrior | None,
    max_rate: float,
    confidence: float,
    kind: str,
) -> float:
    tail = tail_evidence(scores, stranger, confidence=confidence, max_rate=max_rate, prior=prior)
    index = tail.lowest_within(max_rate)
    if index is None:
        raise _insufficient(tail, len(scores), len(np.unique(stranger)), max_rate, confidence, kind)
    # The highest score that must be rejected, and all its ties with it.
    cut = tail.cut[index]
    return -1.0 if np.isneginf(cut) else just_above(cut, scores.dtype)


def _insufficient(
    tail: Tail, trials: int, strangers: int, max_rate: float, confidence: float, kind: str
) -> InsufficientEvidenceError:
    effect = float(tail.design_effect[0])
    needed = math.ceil(ALLOWANCE * float(predicted_errors(0, confidence)) * effect / max_rate)
    more = math.ceil(strangers * (needed / trials - 1))
    strongest = rounded_up(float(tail.bound[0]))
    name, option = ("FMR", "--max-fmr") if kind == "fmr" else ("FPIR", "--max-fpir")
    unit = "comparisons with strangers" if kind == "fmr" else "probes of strangers"
    alike = (
        f" (those of one stranger are alike, so they say as much as {trials / effect:,.0f} "
        "independent ones)"
        if effect > 1.05
        else ""
    )
    claim = (
        f"The strongest claim they carry is 'limen calibrate {option} {strongest:g}'"
        if strongest < 1
        else "They carry no claim at all"
    )
    return InsufficientEvidenceError(
        f"{trials:,} {unit} of {strangers:,} people{alike} cannot show an {name} of {max_rate:g}: "
        f"about {needed - trials:,} more {unit} are missing, or {more:,} more strangers in the "
        f"cohort{', or more people enrolled' if kind == 'fmr' else ''}. {claim}",
        strongest,
        kind,
        needed - trials,
        more,
    )


def _bounded(
    scores: NDArray[np.float32],
    stranger: NDArray[np.int64],
    prior: ClusterPrior | None,
    threshold: float,
    confidence: float,
) -> tuple[float, float, float, int]:
    """The rate, its bound, the effective comparisons, and how many strangers matched."""
    hit = np.asarray(scores, np.float64) >= threshold
    rate = float(hit.mean())
    tail = tail_evidence(
        scores, stranger, confidence=confidence, max_rate=min(1.0, rate), prior=prior
    )
    index = int(np.searchsorted(tail.false_matches, int(hit.sum())))
    # A bound that a higher threshold has too: the design effect of a short tail moves about.
    bound = float(tail.bound[: index + 1].max())
    effect = float(tail.design_effect[index])
    return rate, bound, len(scores) / effect, int(tail.strangers[index])


def _check_rate(rate: float, name: str) -> None:
    if not 0 < rate < 1:  # NaN is refused, too
        raise CalibrationError(
            f"{name}: expected more than 0 and less than 1, such as 1e-3, found {rate}: no "
            "finite number of comparisons shows that strangers never match"
            if rate == 0
            else f"{name}: expected more than 0 and less than 1, such as 1e-3, found {rate}"
        )


def rounded_up(value: float) -> float:
    """Two significant digits, never below `value`, so that a printed command succeeds."""
    digits = 1 - math.floor(math.log10(value))
    return math.ceil(value * 10.0**digits) / float(10.0**digits)
