"""Fakes that ship: a door can be tried, and tested, without a camera, a model or a person.

A "face" is a coloured chequered square on black, and its colour is its identity: brighter or
darker is the same person, another hue is another.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.alignment import CROP_PX, TEMPLATE_XY
from limen.calibration.operating_point import OperatingPoint
from limen.detection import DetectedFace
from limen.device.events import Event
from limen.embedder import unit_norm
from limen.errors import PictureError
from limen.recognition import acquire

FAKE_MODEL_ID = "fake-model"
_MARGIN_PX = 24
_SQUARE_PX = 8


def fake_picture(*colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A black picture, (160, 160 or wider, 3) uint8 RGB, with one face of each colour, in a row."""
    side = CROP_PX + 2 * _MARGIN_PX
    picture = np.zeros((side, side * max(1, len(colours)), 3), np.uint8)
    rows, columns = np.indices((CROP_PX, CROP_PX)) // _SQUARE_PX
    light = np.where((rows + columns) % 2 == 0, 1.0, 0.4)[..., None]
    for number, colour in enumerate(colours):
        left = number * side + _MARGIN_PX
        picture[_MARGIN_PX : _MARGIN_PX + CROP_PX, left : left + CROP_PX] = light * colour
    return picture


def fake_embedding(colour: tuple[int, int, int]) -> NDArray[np.float32]:
    """The embedding, (8,) float32, of the one face in `fake_picture(colour)`."""
    return acquire(fake_picture(colour), FakeDetector(), FakeEmbedder()).embedding


def fake_operating_point(threshold: float = 0.9, model_id: str = FAKE_MODEL_ID) -> OperatingPoint:
    """An operating point with made-up evidence."""
    return OperatingPoint(
        model_id=model_id,
        threshold=threshold,
        max_fmr=1e-3,
        confidence=0.95,
        fmr=0.0,
        fmr_upper_bound=1e-3,
        non_mated_comparisons=3000,
        fnmr=None,
        mated_comparisons=0,
        enrolled_subjects=1,
        cohort_subjects=10,
        calibrated_at="2026-01-01T00:00:00Z",
    )


class FakeDetector:
    """Finds what `fake_picture` paints: every bright patch on black, the largest first."""

    @property
    def detector_id(self) -> str:
        return "fake-detector"

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        bright = (image.max(axis=2) > 16).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(bright)
        faces = []
        for left, top, width, height, _ in stats[1:]:
            corner = np.array([left, top], np.float32)
            scale = np.array([width, height], np.float32) / CROP_PX
            faces.append(
                DetectedFace(
                    box_xyxy=np.array([left, top, left + width, top + height], np.float32),
                    landmarks_xy=(TEMPLATE_XY * scale + corner).astype(np.float32),
                    confidence=1.0,
                )
            )
        return sorted(faces, key=lambda face: -face.area_px)


class FakeEmbedder:
    """Embeds a crop's mean colour: (N, D) float32, the first three values used."""

    def __init__(self, model_id: str = FAKE_MODEL_ID, embedding_size: int = 8) -> None:
        self._model_id = model_id
        self._embedding_size = embedding_size

    @property
    def model_id(self) -> str:
        return self._model_id

    def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        if aligned.ndim != 4 or aligned.shape[3] != 3 or aligned.dtype != np.uint8:
            raise PictureError(
                f"expected crops (N, H, W, 3) uint8, found {aligned.shape} {aligned.dtype}"
            )
        vectors = np.zeros((len(aligned), self._embedding_size), np.float32)
        vectors[:, :3] = aligned.mean(axis=(1, 2))
        return unit_norm(vectors)


class RecordingSink:
    """Keeps the events it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        """What happened, in order, without the decisions of every frame."""
        return [event.kind.value for event in self.events if event.kind.value != "decision"]
