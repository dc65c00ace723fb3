"""Labels from public detectors that agree.

A face counts where two of YuNet, BlazeFace and dlib's HOG saw it; where only one did, the place is
ignored in training. The box is the mean of those that found it. Landmarks are YuNet's, averaged
over several scales and the mirrored picture (which halves their noise), and dropped where dlib's
five points put the eyes elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.detection import DetectedFace
from limen.train.finder.blazeface import BlazeFace
from limen.train.finder.labels import LANDMARKS, Labels
from limen.yunet import YuNetDetector

MAX_SIDE_PX = 640
MIN_OVERLAP = 0.4
SURE, CANDIDATE = 0.9, 0.35  # YuNet's confidence
MAX_EYE_DISAGREEMENT = 0.1  # of the face's longer side: of a turned face the eyes lie close
MIRRORED = np.array([1, 0, 2, 4, 3])
CLOSE_UP_PX = 256
FACE_SHARES = (0.34, 0.45, 0.58)  # the face's share of a close-up's side


@dataclass(frozen=True)
class Teachers:
    """The user's own copies of the public detectors' files."""

    yunet: Path
    blazeface: Path
    dlib_five_points: Path | None = None


class Consensus:
    """Labels a picture. dlib is optional: without it two detectors must agree."""

    def __init__(self, teachers: Teachers) -> None:
        self._yunet = YuNetDetector(teachers.yunet, min_confidence=CANDIDATE)
        self._blazeface = BlazeFace(teachers.blazeface)
        self._hog: Any = None
        self._points: Any = None
        if teachers.dlib_five_points is not None:
            import dlib

            self._hog = dlib.get_frontal_face_detector()
            self._points = dlib.shape_predictor(str(teachers.dlib_five_points))

    def label(self, image: NDArray[np.uint8], path: str) -> Labels:
        """The faces of an (H, W, 3) uint8 RGB picture."""
        height, width = image.shape[:2]
        scale = min(1.0, MAX_SIDE_PX / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        small = np.ascontiguousarray(small, np.uint8)
        first = self._yunet.detect(small)
        second = list(self._blazeface.boxes(small)[:, :4])
        pairs, lone_first, lone_second = match(first, second)
        third = self._hog_boxes(small) if lone_first or lone_second else []
        boxes, landmarks, ignored = [], [], []
        for face, other in pairs:
            boxes.append((face.box_xyxy + other) / 2)
            landmarks.append(self._landmarks(small, face))
        for face in lone_first:
            agreeing = [box for box in third if overlap(face.box_xyxy, box) >= MIN_OVERLAP]
            if agreeing or face.confidence >= SURE:
                boxes.append(np.mean([face.box_xyxy, *agreeing], axis=0))
                landmarks.append(self._landmarks(small, face))
            else:
                ignored.append(face.box_xyxy)
        ignored += lone_second
        known = [np.asarray(box, np.float32) for box in (*boxes, *ignored)]
        ignored += [b for b in third if all(overlap(b, box) < 0.2 for box in known)]
        return Labels(
            path,
            np.asarray(boxes, np.float32).reshape(-1, 4) / scale,
            np.asarray(landmarks, np.float32).reshape(-1, LANDMARKS, 2) / scale,
            np.asarray(ignored, np.float32).reshape(-1, 4) / scale,
        )

    def _hog_boxes(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        if self._hog is None:
            return []
        found = self._hog(image, 0)
        return [np.array([r.left(), r.top(), r.right(), r.bottom()], np.float32) for r in found]

    def _landmarks(self, image: NDArray[np.uint8], face: DetectedFace) -> NDArray[np.float32]:
        """(5, 2) px, NaN where they are not to be trusted."""
        unknown = np.full((LANDMARKS, 2), np.nan, np.float32)
        centre = (face.box_xyxy[:2] + face.box_xyxy[2:]) / 2
        side = float((face.box_xyxy[2:] - face.box_xyxy[:2]).max())
        estimates = []
        for share in FACE_SHARES:
            zoom = share * CLOSE_UP_PX / side
            move = CLOSE_UP_PX / 2 - zoom * centre
            matrix = np.array([[zoom, 0, move[0]], [0, zoom, move[1]]], np.float64)
            close_up = cv2.warpAffine(
                image, matrix, (CLOSE_UP_PX, CLOSE_UP_PX), flags=cv2.INTER_AREA
            )
            for mirrored in (False, True):
                view = np.ascontiguousarray(close_up[:, ::-1] if mirrored else close_up)
                points = self._central_points(np.asarray(view, np.uint8))
                if points is None:
                    continue
                if mirrored:
                    points = (points * [-1, 1] + [CLOSE_UP_PX - 1, 0])[MIRRORED]
                estimates.append((points - move) / zoom)
        if len(estimates) < 3:
            return unknown
        averaged: NDArray[np.float32] = np.median(estimates, axis=0).astype(np.float32)
        spread = np.abs(np.asarray(estimates) - averaged).max(axis=(1, 2))
        eyes_px = float(np.linalg.norm(averaged[1] - averaged[0]))
        if eyes_px < 2 or np.median(spread) > 0.25 * eyes_px:
            return unknown
        if self._points is not None and self._eyes_elsewhere(image, averaged, eyes_px, side):
            return unknown
        return averaged

    def _central_points(self, close_up: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        found = self._yunet.detect(close_up)
        if not found:
            return None
        middle = np.full(2, CLOSE_UP_PX / 2)
        face = min(
            found,
            key=lambda f: float(np.linalg.norm((f.box_xyxy[:2] + f.box_xyxy[2:]) / 2 - middle)),
        )
        return np.asarray(face.landmarks_xy, np.float64)

    def _eyes_elsewhere(
        self,
        image: NDArray[np.uint8],
        points: NDArray[np.float32],
        eyes_px: float,
        side_px: float,
    ) -> bool:
        import dlib

        # dlib's points were learnt on its own square boxes, about the brows to the chin.
        middle = points.mean(0)
        half = 1.15 * eyes_px
        box = dlib.rectangle(*(int(v) for v in (*(middle - half), *(middle + half))))
        shape = self._points(image, box)
        corners = np.array([[p.x, p.y] for p in shape.parts()], np.float32)
        # Corners 0 and 1 belong to the eye on the picture's right, 2 and 3 to the left one.
        eyes = np.stack([corners[2:4].mean(0), corners[:2].mean(0)])
        error_px = float(np.linalg.norm(eyes - points[:2], axis=1).mean())
        return error_px > MAX_EYE_DISAGREEMENT * side_px


def overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes."""
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[2:], second[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    both = float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2])) - shared
    return shared / both if both > 0 else 0.0


def match(
    faces: list[DetectedFace], boxes: list[NDArray[np.float32]]
) -> tuple[
    list[tuple[DetectedFace, NDArray[np.float32]]], list[DetectedFace], list[NDArray[np.float32]]
]:
    """Pair each face with the free box it overlaps most: pairs, lone faces, lone boxes."""
    pairs, lone, free = [], [], list(boxes)
    for face in faces:
        best = max(free, key=lambda box: overlap(face.box_xyxy, box), default=None)
        if best is not None and overlap(face.box_xyxy, best) >= MIN_OVERLAP:
            pairs.append((face, best))
            free = [box for box in free if box is not best]
        else:
            lone.append(face)
    return pairs, lone, free
