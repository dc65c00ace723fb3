"""Labelled pictures, kept small and encoded in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.errors import LimenError
from limen.images import read_picture
from limen.train.finder.labels import Labels, read_labels

Image = NDArray[np.uint8]

MAX_SIDE_PX = 640
MAX_FACE_PX = 300.0
JPEG_QUALITY = 93
SMALL_SIDE_PX = (
    224  # of a second copy: most scenes show faces small, and decoding is what they cost
)
HELD_OUT_SHARE = 20  # one picture in
# The decoder's own halvings, smallest first, and the scale up to which each is enough.
_REDUCED = (
    (0.125, cv2.IMREAD_REDUCED_COLOR_8),
    (0.25, cv2.IMREAD_REDUCED_COLOR_4),
    (0.5, cv2.IMREAD_REDUCED_COLOR_2),
)


class FinderDataError(LimenError, ValueError):
    """There is nothing to learn finding from."""


class Source(Protocol):
    """Pictures with faces to compose from."""

    def __len__(self) -> int: ...

    def labels(self, index: int) -> tuple[Labels, tuple[int, int]]:
        """A picture's labels, in its own px, and its height and width."""

    def read(self, index: int, scale: float = 1.0) -> Image:
        """A picture, smaller than its own size where `scale` of it is enough."""


class LabelledPictures:
    """Those pictures of `labels` that hold a face, below `folder`.

    They are shrunk so that no side is above 640 px and no face above 300 px, and kept as JPEG.
    """

    def __init__(self, labels: Sequence[Labels], folder: Path) -> None:
        self._folder = folder
        self._labels = [each for each in labels if len(each.boxes_xyxy)]
        self._kept: dict[int, _Kept] = {}
        if not self._labels:
            raise FinderDataError(
                "no labelled picture holds a face: label pictures of people first"
            )

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def faces(self) -> int:
        """How many faces there are."""
        return sum(len(each.boxes_xyxy) for each in self._labels)

    def name(self, index: int) -> str:
        """The picture's file name."""
        return Path(self._labels[index].path).name

    def labels(self, index: int) -> tuple[Labels, tuple[int, int]]:
        """A picture's labels, in its own px, and its height and width."""
        kept = self._picture(index)
        return kept.labels, kept.size

    def read(self, index: int, scale: float = 1.0) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, at its own size or, where `scale` of it is enough, smaller, which is
        decoded much faster.
        """
        kept = self._picture(index)
        encoded, share = kept.encoded, SMALL_SIDE_PX / max(kept.size)
        if kept.small is not None and scale <= share:
            encoded, scale = kept.small, scale / share
        method = next((flag for least, flag in _REDUCED if scale <= least), cv2.IMREAD_COLOR)
        bgr = cv2.imdecode(np.frombuffer(encoded, np.uint8), method)
        assert bgr is not None
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)

    def _picture(self, index: int) -> _Kept:
        if index not in self._kept:
            self._kept[index] = self._shrink(index)
        return self._kept[index]

    def _shrink(self, index: int) -> _Kept:
        labels = self._labels[index]
        image = read_picture(self._folder / labels.path)
        height, width = image.shape[:2]
        largest_px = float((labels.boxes_xyxy[:, 2:] - labels.boxes_xyxy[:, :2]).max())
        scale = min(1.0, MAX_SIDE_PX / max(height, width), MAX_FACE_PX / max(largest_px, 1.0))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if scale < 1:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        share = SMALL_SIDE_PX / max(size)
        small = None
        if share < 0.7:
            less = (max(1, round(size[0] * share)), max(1, round(size[1] * share)))
            shrunk = cv2.resize(image, less, interpolation=cv2.INTER_AREA)
            small = _encoded(np.asarray(shrunk, np.uint8))
        known = Labels(
            labels.path,
            labels.boxes_xyxy * scale,
            labels.landmarks_xy * scale,
            labels.ignored_xyxy * scale,
        )
        return _Kept(_encoded(image), small, known, size[::-1])


@dataclass(frozen=True, slots=True)
class _Kept:
    """encoded: as large as `size` (height, width); small: a smaller copy, where one is worth it."""

    encoded: bytes
    small: bytes | None
    labels: Labels
    size: tuple[int, int]


def _encoded(image: Image) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def open_labelled(file: Path, held_out: bool, left_out: Collection[str] = ()) -> LabelledPictures:
    """The pictures of a labels file, those held out for validation or the others.

    One picture in twenty is held out, by a hash of its name. left_out: names of pictures to pass
    over. Paths are relative to the file's folder. FinderDataError where none holds a face.
    """
    chosen = [
        each
        for each in read_labels(file)
        if is_held_out(each.path) == held_out and Path(each.path).name not in left_out
    ]
    return LabelledPictures(chosen, file.parent)


def is_held_out(path: str) -> bool:
    """Whether a picture is for validation, by a hash of its name."""
    digest = hashlib.sha256(Path(path).name.encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_SHARE == 0
