"""Labelled pictures, kept small and encoded in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.errors import LimenError
from limen.images import read_picture
from limen.train.finder.labels import Labels, read_labels

MAX_SIDE_PX = 640
MAX_FACE_PX = 300.0
JPEG_QUALITY = 93
HELD_OUT_SHARE = 20  # one picture in


class SourceError(LimenError, ValueError):
    """There is nothing to learn finding from."""


class LabelledPictures:
    """The pictures that `labels` names, below `folder`; one in twenty is held out by its name.

    Pictures are shrunk so that no side is above 640 px and no face above 300 px, and kept as JPEG.
    """

    def __init__(self, labels: Sequence[Labels], folder: Path) -> None:
        self._folder = folder
        self._labels = list(labels)
        self._kept: dict[int, tuple[bytes, Labels]] = {}
        self.faces = [i for i, each in enumerate(self._labels) if len(each.boxes_xyxy)]
        self.backgrounds = [
            i
            for i, each in enumerate(self._labels)
            if not len(each.boxes_xyxy) and not len(each.ignored_xyxy)
        ]
        if not self.faces:
            raise SourceError("no labelled picture holds a face: label pictures of people first")

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, index: int) -> tuple[NDArray[np.uint8], Labels]:
        """(H, W, 3) uint8 RGB and its labels in the same px."""
        if index not in self._kept:
            self._kept[index] = self._shrink(index)
        encoded, labels = self._kept[index]
        bgr = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), labels

    def _shrink(self, index: int) -> tuple[bytes, Labels]:
        labels = self._labels[index]
        image = read_picture(self._folder / labels.path)
        height, width = image.shape[:2]
        sides = labels.boxes_xyxy[:, 2:] - labels.boxes_xyxy[:, :2]
        largest_px = float(sides.max()) if len(sides) else 1.0
        scale = min(1.0, MAX_SIDE_PX / max(height, width), MAX_FACE_PX / max(largest_px, 1.0))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if scale < 1:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        small = Labels(
            labels.path,
            labels.boxes_xyxy * scale,
            labels.landmarks_xy * scale,
            labels.ignored_xyxy * scale,
        )
        return encoded.tobytes(), small


def open_labelled(file: Path, held_out: bool) -> LabelledPictures:
    """The pictures of a labels file, those held out for validation or the others.

    Paths are relative to the file's folder. SourceError where none holds a face.
    """
    chosen = [each for each in read_labels(file) if is_held_out(each.path) == held_out]
    return LabelledPictures(chosen, file.parent)


def is_held_out(path: str) -> bool:
    """Whether a picture is for validation, by a hash of its name."""
    digest = hashlib.sha256(Path(path).name.encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_SHARE == 0
