"""Embedding many pictures: a batch never ends because of one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.detection import Detector
from limen.embedder import Embedder
from limen.errors import NoFaceError, PictureError
from limen.images import PICTURE_SUFFIXES, read_picture
from limen.recognition import FaceSample, acquire


@dataclass(frozen=True, slots=True)
class FailureToAcquire:
    """A picture that gave no embedding, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class EmbeddedPictures:
    """Rows in the order of the paths that were given.

    path: (N,) str; detected: (N,) bool; embedding: (N, D) float32, unit norm, zeros where not
    detected; box_xyxy: (N, 4); landmarks_xy: (N, 5, 2); quality: (N,) float32.
    """

    path: NDArray[np.str_]
    detected: NDArray[np.bool_]
    embedding: NDArray[np.float32]
    box_xyxy: NDArray[np.float32]
    landmarks_xy: NDArray[np.float32]
    quality: NDArray[np.float32]
    failures: tuple[FailureToAcquire, ...]
    model_id: str

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What `limen embed` writes."""
        return {
            "path": self.path,
            "detected": self.detected,
            "embedding": self.embedding,
            "box_xyxy": self.box_xyxy,
            "landmarks_xy": self.landmarks_xy,
            "quality": self.quality,
        }


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The pictures among `paths`; folders are searched, in the order of their names.

    A file that was named is kept whatever its suffix. PictureError where a path does not exist or
    nothing is found.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
            found += sorted(p for p in inside if p.is_file())
        elif path.exists():
            found.append(path)
        else:
            raise PictureError(f"{path}: no such file or folder; check the path")
    if not found:
        raise PictureError(
            f"{', '.join(map(str, paths))}: no picture there; expected files ending in "
            f"{', '.join(sorted(PICTURE_SUFFIXES))}"
        )
    return found


def embed_pictures(
    paths: Sequence[Path],
    detector: Detector,
    embedder: Embedder,
    embedding_size: int,
    report: Callable[[int], None] = lambda _: None,
) -> EmbeddedPictures:
    """Embed the nearest face of every picture. A picture without one is a failure to acquire.

    report: called with the number of pictures done.
    """
    count = len(paths)
    detected = np.zeros(count, np.bool_)
    embedding = np.zeros((count, embedding_size), np.float32)
    boxes = np.zeros((count, 4), np.float32)
    landmarks = np.zeros((count, 5, 2), np.float32)
    qualities = np.zeros(count, np.float32)
    failures: list[FailureToAcquire] = []
    for row, path in enumerate(paths):
        result = acquire_file(path, detector, embedder)
        if isinstance(result, FailureToAcquire):
            failures.append(result)
        else:
            detected[row] = True
            embedding[row] = result.embedding
            boxes[row] = result.face.box_xyxy
            landmarks[row] = result.face.landmarks_xy
            qualities[row] = result.quality
        report(row + 1)
    return EmbeddedPictures(
        path=np.array([str(path) for path in paths], dtype=np.str_),
        detected=detected,
        embedding=embedding,
        box_xyxy=boxes,
        landmarks_xy=landmarks,
        quality=qualities,
        failures=tuple(failures),
        model_id=embedder.model_id,
    )


def acquire_file(
    path: Path, detector: Detector, embedder: Embedder
) -> FaceSample | FailureToAcquire:
    """The nearest face's sample, or why there is none."""
    try:
        return acquire(read_picture(path), detector, embedder)
    except (PictureError, NoFaceError) as error:
        return FailureToAcquire(str(path), str(error).removeprefix(f"{path}: "))
