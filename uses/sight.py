"""What of a picture is embedded: the faces in it, the whole of it, or a region of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from limen.alignment import align
from limen.bundle import Bundle
from limen.detection import DetectedFace, Detector
from limen.embedder import Embedder
from limen.errors import ConfigError, PictureError
from limen.images import letterbox

# Names how a whole picture becomes a crop; it is part of the model id, as a face finder's name is.
_WHOLE_VERSION = "whole-1"


@dataclass(frozen=True, slots=True)
class Seen:
    """A part of a picture that an embedder takes.

    crop: (P, P, 3) uint8 RGB; box_xyxy: (4,) float32 px, where in the picture it lies.
    """

    crop: NDArray[np.uint8]
    box_xyxy: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of a picture in shares of its width and height: 0 <= left < right <= 1."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def parse(cls, text: str) -> Region:
        """From 'LEFT,TOP,RIGHT,BOTTOM'. ConfigError where it is no such rectangle."""
        try:
            left, top, right, bottom = (float(word) for word in text.split(","))
        except ValueError:
            raise ConfigError(
                f"region '{text}': expected LEFT,TOP,RIGHT,BOTTOM in shares of the picture, "
                "such as 0.25,0,0.75,1"
            ) from None
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ConfigError(
                f"region '{text}': expected 0 <= left < right <= 1, and top, bottom alike"
            )
        return cls(left, top, right, bottom)


class Sight(Protocol):
    """Turns pictures into crops, and crops into embeddings."""

    @property
    def model_id(self) -> str:
        """Names everything that shapes an embedding, this sight included."""
        ...

    @property
    def embedding_size(self) -> int:
        """D."""
        ...

    def see(self, image: NDArray[np.uint8]) -> list[Seen]:
        """What is embedded of an (H, W, 3) uint8 RGB picture, the most important first."""
        ...

    def embed(self, seen: list[Seen]) -> NDArray[np.float32]:
        """(n, D) float32 of unit norm."""
        ...


class _Embedding:
    """What both kinds of sight share: the embedder behind them."""

    def __init__(self, embedder: Embedder, embedding_size: int) -> None:
        self._embedder = embedder
        self.embedding_size = embedding_size

    @property
    def model_id(self) -> str:
        return self._embedder.model_id

    def embed(self, seen: list[Seen]) -> NDArray[np.float32]:
        if not seen:
            return np.zeros((0, self.embedding_size), np.float32)
        return self._embedder.embed(np.stack([one.crop for one in seen]))


class FaceSight(_Embedding):
    """Every face of a picture, the nearest first, as the door sees them."""

    def __init__(self, detector: Detector, embedder: Embedder, embedding_size: int) -> None:
        super().__init__(embedder, embedding_size)
        self._detector = detector

    def see(self, image: NDArray[np.uint8]) -> list[Seen]:
        faces = sorted(self._detector.detect(image), key=lambda face: -face.area_px)
        found = []
        for face in faces:
            try:
                found.append(Seen(align(image, face.landmarks_xy), face.box_xyxy))
            except PictureError:  # landmarks that coincide: a face that cannot be aligned
                continue
        return found


class WholeSight(_Embedding):
    """The whole picture or a region of it, scaled into the embedder's square with black borders."""

    def __init__(
        self, embedder: Embedder, embedding_size: int, px: int, region: Region | None = None
    ) -> None:
        super().__init__(embedder, embedding_size)
        self._px = px
        self._region = region or Region(0, 0, 1, 1)

    def see(self, image: NDArray[np.uint8]) -> list[Seen]:
        height, width = image.shape[:2]
        region = self._region
        left, right = int(region.left * width), max(1, round(region.right * width))
        top, bottom = int(region.top * height), max(1, round(region.bottom * height))
        part = image[top:bottom, left:right]
        if not part.size:
            raise PictureError(f"the region holds no pixel of {width} x {height}; make it larger")
        box = np.array([left, top, right, bottom], np.float32)
        return [Seen(letterbox(np.ascontiguousarray(part), self._px), box)]


class _NoFinder:
    """Stands for a face finder in a model id where no face is looked for."""

    def __init__(self, region: Region | None) -> None:
        self.detector_id = _WHOLE_VERSION
        if region is not None:
            sides = (region.left, region.top, region.right, region.bottom)
            self.detector_id += ":" + ",".join(f"{side:g}" for side in sides)

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        return []


def whole_sight(
    bundle: Bundle,
    region: Region | None = None,
    runtime: str | None = None,
    precision: str | None = None,
    threads: int = 1,
) -> WholeSight:
    """A bundle's embedder over whole pictures; its finder is neither used nor part of the id.

    RuntimeUnavailableError as `Bundle.embedder`.
    """
    embedder = bundle.embedder(runtime, precision, _NoFinder(region), threads)
    manifest = bundle.manifest
    return WholeSight(embedder, manifest.embedding_size, manifest.input.px, region)


def face_sight(
    bundle: Bundle,
    detector: Detector,
    runtime: str | None = None,
    precision: str | None = None,
    threads: int = 1,
) -> FaceSight:
    """A bundle's embedder over the faces that `detector` finds."""
    embedder = bundle.embedder(runtime, precision, detector, threads)
    return FaceSight(detector, embedder, bundle.manifest.embedding_size)
