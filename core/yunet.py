"""A finder that the user brings: YuNet (OpenCV Zoo) through OpenCV's FaceDetectorYN."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.detection import DetectedFace
from limen.errors import BundleError
from limen.onnx_check import check_onnx

MAX_SIDE_PX = 640
MIN_CONFIDENCE = 0.7


class YuNetDetector:
    """Faces by a YuNet ONNX file, or a bundle's part that is one.

    BundleError where it is none, or asks for what `limen.onnx_check` refuses.
    """

    def __init__(self, model: Path | memoryview, min_confidence: float = MIN_CONFIDENCE) -> None:
        name = str(model) if isinstance(model, Path) else "the bundle's finder"
        try:
            content = model.read_bytes() if isinstance(model, Path) else bytes(model)
        except OSError as error:
            raise BundleError(f"{name}: cannot be read ({error.strerror})") from error
        check_onnx(content, name)
        self._digest = hashlib.sha256(content).hexdigest()
        try:
            self._net = cv2.FaceDetectorYN.create(
                "onnx",
                np.frombuffer(content, np.uint8),
                np.empty(0, np.uint8),
                (320, 320),
                score_threshold=min_confidence,
            )
        except cv2.error as error:
            raise BundleError(f"{name}: not a YuNet file that this OpenCV reads") from error

    @property
    def detector_id(self) -> str:
        return f"yunet-{self._digest[:16]}"

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        height, width = image.shape[:2]
        scale = min(1.0, MAX_SIDE_PX / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA) if scale < 1 else bgr
        self._net.setInputSize(size)
        rows: Any = self._net.detect(small)[1]  # None where nothing was found
        if rows is None:
            return []
        faces = []
        for row in np.asarray(rows, np.float32):
            x, y, w, h = row[:4] / scale
            faces.append(
                DetectedFace(
                    box_xyxy=np.array([x, y, x + w, y + h], np.float32),
                    landmarks_xy=(row[4:14] / scale).reshape(5, 2).astype(np.float32),
                    confidence=float(row[14]),
                )
            )
        return sorted(faces, key=lambda face: -face.area_px)
