"""From a picture to an embedding: find, choose, align, judge, embed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.alignment import align
from limen.detection import DetectedFace, Detector, nearest_face
from limen.embedder import Embedder
from limen.quality import quality


@dataclass(frozen=True, slots=True)
class FaceSample:
    """The face that was taken from a picture.

    embedding: (D,) float32, unit norm; crop: (112, 112, 3) uint8 RGB; faces: how many were seen.
    """

    face: DetectedFace
    crop: NDArray[np.uint8]
    embedding: NDArray[np.float32]
    quality: float
    faces: int


def acquire(image: NDArray[np.uint8], detector: Detector, embedder: Embedder) -> FaceSample:
    """Return the sample of the nearest face in an (H, W, 3) uint8 RGB picture.

    NoFaceError where there is none: a failure to acquire.
    """
    faces = detector.detect(image)
    face = nearest_face(faces)
    crop = align(image, face.landmarks_xy)
    return FaceSample(
        face=face,
        crop=crop,
        embedding=embedder.embed(crop[None])[0],
        quality=quality(face, crop),
        faces=len(faces),
    )
