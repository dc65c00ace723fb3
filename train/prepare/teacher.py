"""A teacher's embeddings of the crops, for recipes that distil: OpenCV Zoo's SFace."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.alignment import CROP_PX
from limen.embedder import unit_norm
from limen.errors import BundleError

NAME = "sface"  # as recipes call it


class SFaceTeacher:
    """SFace through OpenCV, so that no further runtime is needed. BundleError for another file."""

    def __init__(self, model: Path) -> None:
        try:
            self._net = cv2.dnn.readNetFromONNX(np.frombuffer(model.read_bytes(), np.uint8))
            self.size = self.embed(np.zeros((CROP_PX, CROP_PX, 3), np.uint8) + 127).size
        except (OSError, cv2.error) as error:
            raise BundleError(
                f"{model}: not an SFace file that this OpenCV reads; expected OpenCV Zoo's "
                "face_recognition_sface ONNX file"
            ) from error

    def embed(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(112, 112, 3) uint8 RGB -> (D,) float32 of unit norm. SFace scales its input itself."""
        self._net.setInput(cv2.dnn.blobFromImage(crop))
        row: NDArray[np.float32] = np.asarray(self._net.forward(), np.float32).reshape(1, -1)
        return np.asarray(unit_norm(row)[0], np.float32)
