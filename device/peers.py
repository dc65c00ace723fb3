"""What people use in limen's place, timed on the same frame where it is installed.

None of it is a dependency: OpenCV's networks are files that the user names, face_recognition is a
package that the user installed.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.embedder import unit_norm
from limen.errors import BundleError, NoFaceError, RuntimeUnavailableError

# Thresholds that their own documentation gives.
SFACE_COSINE, FACE_RECOGNITION_DISTANCE = 0.363, 0.6


class OpenCvPeer:
    """OpenCV Zoo's YuNet and SFace through OpenCV's own classes.

    The references are one matrix, which is faster than the zoo's loop over `match`. BundleError
    where OpenCV does not read a file.
    """

    name = "YuNet + SFace"

    def __init__(self, yunet: Path, sface: Path, references: int) -> None:
        try:
            self._detector = cv2.FaceDetectorYN.create(str(yunet), "", (320, 320))
            self._embedder = cv2.FaceRecognizerSF.create(str(sface), "")
        except cv2.error as error:
            raise BundleError(
                f"{yunet}, {sface}: OpenCV does not read them; expected the zoo's "
                "face_detection_yunet and face_recognition_sface, ONNX"
            ) from error
        rng = np.random.default_rng(0)
        self._references = unit_norm(rng.standard_normal((references, 128), np.float32))

    def decide(self, image: NDArray[np.uint8]) -> bool:
        picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        self._detector.setInputSize(picture.shape[1::-1])
        faces = self._detector.detect(picture)[1]
        if faces is None:
            raise NoFaceError(f"{self.name} finds no face in this picture: name another")
        nearest = max(faces, key=lambda face: face[2] * face[3])
        crop = self._embedder.alignCrop(picture, nearest)
        probe = unit_norm(np.asarray(self._embedder.feature(crop), np.float32))[0]
        return bool((self._references @ probe).max() >= SFACE_COSINE)


class FaceRecognitionPeer:
    """ageitgey/face_recognition as its examples use it: HOG finder, one jitter, Euclidean distance.

    RuntimeUnavailableError where it is not installed.
    """

    name = "face_recognition"

    def __init__(self, references: int) -> None:
        if not has_face_recognition():
            raise RuntimeUnavailableError(
                "face_recognition is not installed: pip install dlib-bin face_recognition_models, "
                "then pip install --no-deps face_recognition"
            )
        self._library: Any = importlib.import_module("face_recognition")
        rng = np.random.default_rng(0)
        self._references = unit_norm(rng.standard_normal((references, 128), np.float32))

    def decide(self, image: NDArray[np.uint8]) -> bool:
        places = self._library.face_locations(image)
        if not places:
            raise NoFaceError(f"{self.name} finds no face in this picture: name another")
        nearest = max(places, key=lambda place: (place[2] - place[0]) * (place[1] - place[3]))
        (probe,) = self._library.face_encodings(image, [nearest])
        distances = self._library.face_distance(self._references, probe)
        return bool(distances.min() <= FACE_RECOGNITION_DISTANCE)


def has_face_recognition() -> bool:
    """Whether face_recognition can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("face_recognition", "dlib"))
