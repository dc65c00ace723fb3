"""The figures of a finder that any detector can be held to: at a door's size, by distance, on none.

Frames are 640 x 480 px, as a camera gives them; a detector "at 320 x 240" sees half of that. A
face's size is the root of its box's area in the frame. Truth is the consensus's (`limen label`), of
pictures that the finder was not trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.anchors import overlaps
from limen.detection import DetectedFace, Detector
from limen.train.finder.backdrops import face_free_part
from limen.train.finder.labels import Labels
from limen.train.finder.placing import place
from limen.train.finder.source import Image, Source

FRAME_PX = (480, 640)
MIN_OVERLAP = 0.5


@dataclass(frozen=True)
class HalfSize:
    """A detector that sees half of every side: a 640 x 480 frame at 320 x 240."""

    inner: Detector

    @property
    def detector_id(self) -> str:
        """The inner one's, told apart."""
        return f"half-{self.inner.detector_id}"

    def detect(self, image: Image) -> list[DetectedFace]:
        """Faces in px of the whole frame."""
        height, width = image.shape[:2]
        small = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        return [
            DetectedFace(face.box_xyxy * 2, face.landmarks_xy * 2 + 0.5, face.confidence)
            for face in self.inner.detect(np.asarray(small, np.uint8))
        ]


@dataclass
class Recall:
    """Faces that were looked for and found, and how far off their landmarks were.

    landmark_errors: mean distance of the five by that of the eyes, where both are known.
    """

    faces: int = 0
    found: int = 0
    landmark_errors: list[float] = field(default_factory=list)

    def add(
        self,
        box: NDArray[np.float32],
        landmarks: NDArray[np.float32],
        faces: Sequence[DetectedFace],
    ) -> bool:
        """Count one face, (4,) px with (5, 2) px of landmarks or NaN; whether it was found."""
        self.faces += 1
        if not faces:
            return False
        shared = overlaps(box, np.stack([face.box_xyxy for face in faces]))
        best = int(shared.argmax())
        if shared[best] < MIN_OVERLAP:
            return False
        self.found += 1
        if not np.isnan(landmarks).any():
            eyes_px = max(1.0, float(np.linalg.norm(landmarks[1] - landmarks[0])))
            off = np.linalg.norm(faces[best].landmarks_xy - landmarks, axis=1).mean()
            self.landmark_errors.append(float(off) / eyes_px)
        return True

    def summary(self) -> dict[str, float | int | None]:
        """Counts, share found, landmark errors' mean, median and 95th percentile."""
        errors = np.asarray(self.landmark_errors)
        known = len(errors) > 0
        return {
            "faces": self.faces,
            "found": self.found,
            "recall": self.found / self.faces if self.faces else None,
            "with_landmarks": len(errors),
            "mean_landmark_error": float(errors.mean()) if known else None,
            "median_landmark_error": float(np.median(errors)) if known else None,
            "landmark_error_95": float(np.percentile(errors, 95)) if known else None,
        }


def person_of(labels: Labels, size: tuple[int, int]) -> int | None:
    """The face that a portrait of `size` (height, width) is of: the largest near its middle."""
    if not len(labels.boxes_xyxy):
        return None
    boxes = labels.boxes_xyxy
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    middle = np.array([size[1], size[0]], np.float32) / 2
    away = np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - middle, axis=1)
    return int(np.argmax(sides - 0.5 * away))


def recall_at(source: Source, detector: Detector, face_px: float, frames: int, seed: int) -> Recall:
    """One face of `face_px` somewhere in each of `frames` frames, always the same ones for a seed."""
    counts = Recall()
    for scene in frames_with_a_face(source, face_px, frames, seed):
        image, box, landmarks = scene
        counts.add(box, landmarks, detector.detect(image))
    return counts


def frames_with_a_face(
    source: Source, face_px: float, frames: int, seed: int
) -> Iterator[tuple[Image, NDArray[np.float32], NDArray[np.float32]]]:
    """A frame, its face's box (4,) and landmarks (5, 2), px; the picture's other faces stay in it."""
    height, width = FRAME_PX
    for number in range(frames):
        rng = np.random.default_rng([seed, number])
        index = int(rng.integers(len(source)))
        labels, own_size = source.labels(index)
        face = person_of(labels, own_size)
        assert face is not None
        box = labels.boxes_xyxy[face]
        scale = face_px / float(np.sqrt(np.prod(box[2:] - box[:2])))
        margin = 0.75 * face_px
        target = [rng.uniform(margin, extent - margin) for extent in (width, height)]
        shift = np.asarray(target) - scale * (box[:2] + box[2:]) / 2
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float64)
        scene = place(index, FRAME_PX, matrix, rng, source)
        moved = (box * scale + np.tile(shift, 2)).astype(np.float32)
        points = (labels.landmarks_xy[face] * scale + shift).astype(np.float32)
        yield scene.image, moved, points


def backgrounds(source: Source, count: int, size: tuple[int, int], seed: int) -> Iterator[Image]:
    """Parts without a face of `source`'s pictures, scaled to `size` (height, width)."""
    rng = np.random.default_rng([seed, 9])
    given = 0
    for _ in range(50 * count):
        index = int(rng.integers(len(source)))
        labels, own_size = source.labels(index)
        part = face_free_part(labels, own_size, size, rng)
        if part is None:
            continue
        left, top, right, bottom = part.astype(int)
        cut = source.read(index)[top:bottom, left:right]
        if min(cut.shape[:2]) < 24:
            continue
        yield np.asarray(cv2.resize(cut, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        given += 1
        if given == count:
            return


def crops(
    pictures: Sequence[Image], count: int, size: tuple[int, int], seed: int
) -> Iterator[Image]:
    """Random crops of whole pictures, a quarter of a side or more, scaled to `size`."""
    rng = np.random.default_rng([seed, 8])
    for number in range(count):
        picture = pictures[number % len(pictures)]
        largest = min(picture.shape[0] / size[0], picture.shape[1] / size[1])
        scale = largest * float(np.exp(rng.uniform(np.log(0.25), 0)))
        extent = np.maximum(1, (scale * np.asarray(size)).astype(int))
        top, left = (
            int(rng.integers(0, full - part + 1))
            for full, part in zip(picture.shape[:2], extent, strict=True)
        )
        cut = picture[top : top + extent[0], left : left + extent[1]]
        method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        yield np.asarray(cv2.resize(cut, size[::-1], interpolation=method), np.uint8)
