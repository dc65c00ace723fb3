"""BlazeFace, full range (MediaPipe's face_detection_full_range_sparse.tflite), as a teacher.

The graph is the user's own copy (it is part of the `mediapipe` wheel, Apache-2.0); only its
answers are used. Input 192 x 192 RGB in -1..1; 48 x 48 anchors, one each; see the graph's options
in MediaPipe's `face_detection_full_range.pbtxt`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.anchors import non_maximum_suppression

INPUT_PX = 192
GRID = 48
MIN_CONFIDENCE = 0.5


class BlazeFace:
    """Boxes by BlazeFace."""

    def __init__(self, graph: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter: Any = Interpreter(str(graph), num_threads=1)
        self._interpreter.allocate_tensors()
        outputs = self._interpreter.get_output_details()
        self._boxes = next(o["index"] for o in outputs if o["shape"][-1] == 16)
        self._scores = next(o["index"] for o in outputs if o["shape"][-1] == 1)
        self._input = self._interpreter.get_input_details()[0]["index"]
        centres = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
        self._anchors = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)

    def boxes(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, 5) float32: left, top, right, bottom in px, confidence."""
        height, width = image.shape[:2]
        scale = INPUT_PX / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = np.zeros((INPUT_PX, INPUT_PX, 3), np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self._interpreter.set_tensor(self._input, canvas[None].astype(np.float32) / 127.5 - 1)
        self._interpreter.invoke()
        raw = self._interpreter.get_tensor(self._boxes)[0]
        logits = self._interpreter.get_tensor(self._scores)[0, :, 0]
        confidence = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
        found = confidence >= MIN_CONFIDENCE
        centre = raw[found, :2] / INPUT_PX + self._anchors[found]
        half = raw[found, 2:4] / INPUT_PX / 2
        boxes = np.concatenate([centre - half, centre + half], 1) * INPUT_PX / scale
        rows = np.concatenate([boxes, confidence[found, None]], 1).astype(np.float32)
        return rows[non_maximum_suppression(rows[:, :4], rows[:, 4], 0.3)]
