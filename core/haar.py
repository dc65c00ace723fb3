"""The interim finder: Haar cascades from OpenCV 4's wheel, with eye positions for alignment.

It needs no weights of anyone's, works on any board, and is the weakest part of this release: it
finds upright, frontal faces, and its eyes are a few pixels off (README, "How good is it").
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.detection import DetectedFace
from limen.errors import RuntimeUnavailableError

FACE_CASCADE = "haarcascade_frontalface_alt2.xml"
EYE_CASCADE = "haarcascade_eye_tree_eyeglasses.xml"

# Where a face's landmarks lie in the cascade's box, as shares of its width, and how far the eyes
# that were found may move them. Measured against YuNet's landmarks on 626 CelebA pictures of the
# `fit` part, turned by up to 12 degrees (docs/adr/0003-interim-finder.md).
MEAN_SHAPE = np.array(
    [[0.306, 0.384], [0.691, 0.385], [0.497, 0.614], [0.332, 0.781], [0.663, 0.783]], np.float32
)
TRUST = 0.6  # in the eyes' shift and rotation, against the box
TRUST_IN_SCALE = 0.3  # in their distance, which also shrinks when a head turns
EYE_TOLERANCE = 0.09  # of the box: an eye found farther away is a brow or a nostril
MAX_SIDE_PX = 640  # larger pictures are searched at this size
VERSION = 1


class HaarDetector:
    """Faces by OpenCV's cascades. Not safe to share between threads."""

    def __init__(self, min_face_px: int = 40) -> None:
        self._min_face_px = min_face_px
        self._faces = _cascade(FACE_CASCADE)
        self._eyes = _cascade(EYE_CASCADE)

    @property
    def detector_id(self) -> str:
        return f"haar-{VERSION}-{_cascades_digest()[:16]}"

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        scale = min(1.0, MAX_SIDE_PX / max(grey.shape))
        small = (
            cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            if scale < 1
            else grey
        )
        smallest = max(24, int(self._min_face_px * scale))
        boxes, _, weights = self._faces.detectMultiScale3(
            small, 1.1, 3, minSize=(smallest, smallest), outputRejectLevels=True
        )
        faces = [
            self._face(grey, np.asarray(box, np.float32) / scale, float(weight))
            for box, weight in zip(boxes, np.ravel(weights), strict=True)
        ]
        return sorted(faces, key=lambda face: -face.area_px)

    def _face(
        self, grey: NDArray[np.uint8], box_xywh: NDArray[np.float32], weight: float
    ) -> DetectedFace:
        x, y, width, height = (float(value) for value in box_xywh)
        corner = np.array([x, y], np.float32)
        eyes = (self._find_eyes(grey, x, y, width) - corner) / width
        return DetectedFace(
            box_xyxy=np.array([x, y, x + width, y + height], np.float32),
            landmarks_xy=shape_from_eyes(eyes) * width + corner,
            confidence=float(1 / (1 + np.exp(-weight))),
        )

    def _find_eyes(
        self, grey: NDArray[np.uint8], x: float, y: float, width: float
    ) -> NDArray[np.float32]:
        """Both eyes, (2, 2) px: as found, else where the box says they should be."""
        expected = MEAN_SHAPE[:2] * width + np.array([x, y], np.float32)
        found = expected.copy()
        corner = np.array([max(0, int(x)), max(0, int(y + 0.15 * width))], np.float32)
        region = grey[int(corner[1]) : int(y + 0.6 * width), int(corner[0]) : int(x + width)]
        if min(region.shape) < 20:
            return expected
        zoom = max(1.0, 120 / width)
        if zoom > 1:
            enlarged = cv2.resize(region, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)
            region = np.asarray(enlarged, np.uint8)
        smallest = max(16, int(0.12 * width * zoom))
        boxes = self._eyes.detectMultiScale(region, 1.05, 3, minSize=(smallest, smallest))
        if len(boxes) == 0:
            return expected
        eyes = np.asarray(boxes, np.float32)
        centres = (eyes[:, :2] + eyes[:, 2:] / 2) / zoom + corner
        for side in range(2):
            distance = np.linalg.norm(centres - expected[side], axis=1)
            if distance.min() <= EYE_TOLERANCE * width:
                found[side] = centres[int(distance.argmin())]
        if np.array_equal(found, expected):
            return expected
        # One eye alone moves the other with it: a face shifts more than it stretches.
        for side, other in ((0, 1), (1, 0)):
            if np.array_equal(found[side], expected[side]):
                found[side] += found[other] - expected[other]
        return found


def shape_from_eyes(eyes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Five landmarks, (5, 2): the mean shape, moved part of the way to the eyes that were found.

    eyes: (2, 2), in the box's own unit. Cascade eyes are noisy, so they are trusted in part.
    """
    mean_eyes = MEAN_SHAPE[:2].mean(0)
    step, mean_step = eyes[1] - eyes[0], MEAN_SHAPE[1] - MEAN_SHAPE[0]
    angle = TRUST * float(np.arctan2(step[1], step[0]))
    scale = 1 + TRUST_IN_SCALE * (float(np.hypot(*step)) / float(np.hypot(*mean_step)) - 1)
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shape = (MEAN_SHAPE - mean_eyes) @ rotation.T + mean_eyes
    return np.asarray(shape + TRUST * (eyes.mean(0) - mean_eyes), np.float32)


def _cascade_folder() -> Path:
    data = getattr(cv2, "data", None)
    return Path(data.haarcascades) if data is not None else Path()


def _cascade(name: str) -> cv2.CascadeClassifier:
    path = _cascade_folder() / name
    if not hasattr(cv2, "CascadeClassifier") or not path.is_file():
        raise RuntimeUnavailableError(
            f"this OpenCV ({cv2.__version__}) carries no Haar cascades: "
            "pip install 'opencv-python-headless<5', or name a YuNet file with --yunet"
        )
    return cv2.CascadeClassifier(str(path))


@lru_cache(maxsize=1)
def _cascades_digest() -> str:
    digest = hashlib.sha256()
    for name in (FACE_CASCADE, EYE_CASCADE):
        digest.update((_cascade_folder() / name).read_bytes())
    return digest.hexdigest()
