"""Finding faces: what a detector promises, and which of several faces counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from limen.errors import NoFaceError


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A face in a picture.

    box_xyxy: (4,) float32 px, left, top, right, bottom; landmarks_xy: (5, 2) float32 px: eyes,
    nose, mouth corners, the picture's left first; confidence: 0 to 1, on the detector's own scale.
    """

    box_xyxy: NDArray[np.float32]
    landmarks_xy: NDArray[np.float32]
    confidence: float

    @property
    def width_px(self) -> float:
        """Width of the box."""
        return float(self.box_xyxy[2] - self.box_xyxy[0])

    @property
    def area_px(self) -> float:
        """Area of the box."""
        return self.width_px * float(self.box_xyxy[3] - self.box_xyxy[1])


class Detector(Protocol):
    """Finds faces.

    `detector_id` names everything that shapes its landmarks (kind, version, graph): it is part of
    the model id, because landmarks shape an embedding.
    """

    @property
    def detector_id(self) -> str:
        """What shapes the landmarks."""
        ...

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """All faces in an (H, W, 3) uint8 RGB picture, largest first; none is an empty list."""
        ...


def nearest_face(faces: Sequence[DetectedFace]) -> DetectedFace:
    """The face that a door takes when it sees several: the largest, hence nearest.

    NoFaceError where there is none.
    """
    if not faces:
        raise NoFaceError(
            "no face was found: face the camera, in even light, at least 80 px wide in the picture"
        )
    return max(faces, key=lambda face: face.area_px)
