"""Calibrating a gallery: its own references and a bundle's cohort in, a kept operating point out."""

from __future__ import annotations

from limen.bundle import Bundle
from limen.calibration.calibrate import calibrate, door_scores
from limen.calibration.operating_point import OperatingPoint
from limen.device.gallery import Gallery
from limen.errors import CalibrationError


def calibrate_gallery(
    gallery: Gallery,
    bundle: Bundle,
    *,
    max_fmr: float,
    confidence: float,
    calibrated_at: str,
) -> OperatingPoint:
    """Calibrate and keep the operating point; on any error the old one stays.

    CalibrationError where nobody is enrolled; InsufficientEvidenceError where the comparisons
    cannot carry `max_fmr`.
    """
    references = gallery.references()
    if not references.subject_ids:
        raise CalibrationError("nobody is enrolled: run 'limen enrol SUBJECT PICTURE…' first")
    cohort = bundle.cohort()
    point = calibrate(
        door_scores(
            references.embeddings,
            references.subject,
            len(references.subject_ids),
            cohort.embeddings,
        ),
        max_fmr=max_fmr,
        confidence=confidence,
        model_id=gallery.model_id,
        enrolled_subjects=len(references.subject_ids),
        cohort_subjects=len(set(cohort.subject.tolist())),
        calibrated_at=calibrated_at,
        threshold_floor=bundle.manifest.threshold_floor,
    )
    gallery.keep_operating_point(point)
    return point


def require_operating_point(gallery: Gallery) -> OperatingPoint:
    """The gallery's operating point. CalibrationError where it was never calibrated."""
    point = gallery.operating_point()
    if point is None:
        raise CalibrationError(
            "this gallery has no operating point, so no score can be called a match: "
            "run 'limen calibrate'"
        )
    return point
