"""Two models at one door, while a gallery moves from one to the other.

Each subject is compared by one of them only: by the new one as soon as it has references there and
an operating point of its own, by the former until then. Scores of two models are never compared;
each answers at its own threshold, so each one's FMR bound holds. A face that both take for somebody
is nobody's: the door stays locked (docs/adr/0030-two-models-at-one-door.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from limen.alignment import align
from limen.calibration.conditions import Condition
from limen.calibration.operating_point import OperatingPoint
from limen.detection import DetectedFace, Detector
from limen.device.following import scaled_faces
from limen.device.former import Former
from limen.device.gallery import Gallery
from limen.device.gallery.moving import Move, former_references
from limen.device.permission import Permission
from limen.device.recogniser import Recogniser, fused, lookalikes_among
from limen.device.subjects import References
from limen.device.trusted_clock import WallTime
from limen.device.values import Decision, Frame, Outcome
from limen.errors import CalibrationError, ModelMismatchError, PictureError
from limen.recognition import FaceSample

LEAST_OVERLAP = 0.3  # of two finders' boxes of one face, intersection over union

logger = logging.getLogger(__name__)


class SideBySide(Recogniser):
    """The new model's recogniser, which asks the former one about whoever has not come back.

    The former's probe is of one frame: its threshold, calibrated for one frame or for several
    fused, holds for no more than it was calibrated for, and one is never more.
    """

    def __init__(
        self,
        references: References,
        threshold: float,
        old: Recogniser,
        former: Former,
        *,
        probe_frames: int = 1,
        permission: Permission | None = None,
        lookalikes: frozenset[str] = frozenset(),
        by_condition: Mapping[Condition, float] | None = None,
    ) -> None:
        """references, threshold and what follows `former`: the new model's, as a recogniser's.

        old: over those whom the new model does not serve.
        """
        super().__init__(
            references,
            threshold,
            probe_frames=probe_frames,
            permission=permission,
            lookalikes=lookalikes,
            by_condition=by_condition,
        )
        self._old = old
        self._former = former
        self._seen: tuple[int, list[DetectedFace]] | None = None

    def may_enter(self, subject_id: str) -> bool:
        """Whether the subject is known to either model and may enter now."""
        return super().may_enter(subject_id) or self._old.may_enter(subject_id)

    def decide(
        self,
        sample: FaceSample | None,
        frame: Frame,
        *,
        min_quality: float = 0.0,
        min_face_px: float = 0.0,
        track: int | None = None,
    ) -> Decision:
        """As a recogniser's, by both models; a match of both is no match."""
        new = super().decide(
            sample, frame, min_quality=min_quality, min_face_px=min_face_px, track=track
        )
        if sample is None or new.outcome is Outcome.FAILURE_TO_ACQUIRE:
            return new
        again = self._as_the_former_sees(sample, frame)
        if again is None:
            return new
        old = self._old.decide(again, frame, track=track)
        if old.outcome is not Outcome.MATCH:
            return new
        if new.outcome is Outcome.MATCH:
            return replace(new, outcome=Outcome.NO_MATCH)
        return replace(old, quality=new.quality, box_xyxy=new.box_xyxy, faces=new.faces)

    def _as_the_former_sees(self, sample: FaceSample, frame: Frame) -> FaceSample | None:
        """The same face, found, aligned and embedded by the former; None where it does not find it."""
        crop = sample.crop
        if self._former.detector is not None:
            face = self._same_face(sample.face, frame, self._former.detector)
            if face is None:
                return None
            try:
                crop = align(frame.image, face.landmarks_xy)
            except PictureError:
                return None
        return replace(sample, crop=crop, embedding=self._former.embedder.embed(crop[None])[0])

    def _same_face(
        self, face: DetectedFace, frame: Frame, detector: Detector
    ) -> DetectedFace | None:
        if self._seen is None or self._seen[0] != frame.sequence:
            self._seen = (frame.sequence, _faces(frame, detector))
        overlaps = [(_overlap(face.box_xyxy, other.box_xyxy), other) for other in self._seen[1]]
        best = max(overlaps, key=lambda pair: pair[0], default=(0.0, None))
        return best[1] if best[0] >= LEAST_OVERLAP else None


def load_moving(
    gallery: Gallery,
    move: Move,
    model_id: str,
    former: Former | None,
    *,
    find_lookalikes: bool,
    wall_clock: Callable[[], WallTime],
) -> Recogniser:
    """The recogniser of a gallery on its way, for a door that runs `model_id`.

    A door with the former model goes on with it alone, one with the new model asks both where it
    was given `former`. Whoever neither can recognise is a stranger. ModelMismatchError for a model
    that is neither, or a `former` that is not the gallery's; CalibrationError where no model that
    the door runs has an operating point.
    """
    if model_id not in (gallery.model_id, move.former):
        raise ModelMismatchError(
            f"gallery is on its way from model {move.former[:8]}… to {gallery.model_id[:8]}…, "
            f"bundle is {model_id[:8]}…: use the new bundle"
        )

    def recogniser(references: References, point: OperatingPoint | None) -> Recogniser:
        return Recogniser(
            references if point else _NOBODY,
            point.threshold if point else 1.0,
            probe_frames=point.probe_frames if point else 1,
            permission=Permission(references if point else _NOBODY, wall_clock),
            lookalikes=lookalikes,
            by_condition=point.thresholds_by_condition() if point else None,
        )

    everybody = former_references(gallery.store)
    # Of everybody, not of either model's part: whoever waits may look like one who does not.
    lookalikes = _alike(everybody, move.point) if find_lookalikes else frozenset[str]()
    if model_id == move.former:
        if move.point is None:
            raise CalibrationError(_NOT_CALIBRATED)
        logger.warning("the gallery moved to another model: this door still runs the former one")
        return recogniser(everybody, move.point)
    if former is not None and former.embedder.model_id != move.former:
        raise ModelMismatchError(
            f"gallery's former model is {move.former[:8]}…, the former bundle's "
            f"{former.embedder.model_id[:8]}…: name the bundle that the gallery was made with"
        )
    point = gallery.operating_point()
    own = gallery.references() if point is not None else _NOBODY
    if find_lookalikes:
        lookalikes |= _alike(own, point)
    if former is None or move.point is None:
        if point is None:
            raise CalibrationError(_NOT_CALIBRATED)
        if move.waiting:
            logger.warning("people who are known to the former model only are strangers here")
        return recogniser(own, point)
    if point is None:
        logger.warning("the new model has no operating point: only the former one recognises")
    waiting = _without(everybody, set(own.subject_ids))
    return SideBySide(
        own,
        point.threshold if point else 1.0,
        recogniser(waiting, move.point),
        former,
        probe_frames=point.probe_frames if point else 1,
        permission=Permission(own, wall_clock),
        lookalikes=lookalikes,
        by_condition=point.thresholds_by_condition() if point else None,
    )


_NOT_CALIBRATED = (
    "no threshold was calibrated for this gallery and model: run 'limen calibrate' with the new "
    "bundle, or name the former one beside it"
)
_NOBODY = References((), np.zeros(0, np.int64), np.zeros((0, 0), np.float32))


def _alike(references: References, point: OperatingPoint | None) -> frozenset[str]:
    """Who looks like somebody else to a model at its operating point."""
    if point is None:
        return frozenset()
    return lookalikes_among(fused(references), references.subject_ids, point.threshold)


def _without(references: References, served: set[str]) -> References:
    """The references of everybody else."""
    kept = [row for row, name in enumerate(references.subject_ids) if name not in served]
    number = np.full(len(references.subject_ids), -1, np.int64)
    number[kept] = np.arange(len(kept))
    own = number[references.subject] >= 0
    strange = number[references.negative_subject] >= 0
    return References(
        subject_ids=tuple(references.subject_ids[row] for row in kept),
        subject=number[references.subject][own],
        embeddings=references.embeddings[own],
        negatives=references.negatives[strange],
        negative_subject=number[references.negative_subject][strange],
        details=tuple(references.details[row] for row in kept) if references.details else (),
    )


def _faces(frame: Frame, detector: Detector) -> list[DetectedFace]:
    if frame.small is None:
        return detector.detect(frame.image)
    height, width = frame.image.shape[:2]
    small_height, small_width = frame.small.shape[:2]
    return scaled_faces(detector.detect(frame.small), width / small_width, height / small_height)


def _overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes, (4,) px each."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    inside = float(np.prod(np.maximum(high - low, 0)))
    areas = [float(np.prod(np.maximum(box[2:] - box[:2], 0))) for box in (first, second)]
    return inside / max(areas[0] + areas[1] - inside, 1e-9)
