"""How a face finder's feature maps become faces: shared by training, export and the runtime.

A cell of the map with stride s, at column i and row j, stands for the pixel
((i + 1/2) s, (j + 1/2) s). It says, in units of s and relative to that pixel: a score (a logit),
a box as offset of its centre and logarithms of width and height, and five landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.detection import DetectedFace

STRIDES_PX = (8, 16, 32)
SCORE_CHANNELS, BOX_CHANNELS, LANDMARK_CHANNELS = 1, 4, 10
LARGEST_LOG_SIZE = 6.0
MAX_OVERLAP = 0.4


def cell_centres(height: int, width: int, stride_px: int) -> NDArray[np.float32]:
    """(height * width, 2) float32 px, row by row."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return ((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride_px).astype(np.float32)


def decode(
    scores: Sequence[NDArray[np.float32]],
    boxes: Sequence[NDArray[np.float32]],
    landmarks: Sequence[NDArray[np.float32]],
    min_confidence: float,
    max_overlap: float = MAX_OVERLAP,
) -> list[DetectedFace]:
    """Faces in one picture, largest first, after non-maximum suppression.

    scores, boxes, landmarks: one map a stride, (H, W, 1), (H, W, 4) and (H, W, 10) float32.
    """
    found_boxes, found_landmarks, found_confidence = [], [], []
    threshold = np.log(min_confidence / (1 - min_confidence))
    for stride, score, box, points in zip(STRIDES_PX, scores, boxes, landmarks, strict=True):
        height, width = score.shape[:2]
        logits = score.reshape(-1)
        chosen = np.flatnonzero(logits >= threshold)
        if not len(chosen):
            continue
        centres = cell_centres(height, width, stride)[chosen]
        box = box.reshape(-1, BOX_CHANNELS)[chosen]
        middle = centres + box[:, :2] * stride
        half = np.exp(np.minimum(box[:, 2:], LARGEST_LOG_SIZE)) * stride / 2
        found_boxes.append(np.concatenate([middle - half, middle + half], 1))
        offsets = points.reshape(-1, LANDMARK_CHANNELS // 2, 2)[chosen]
        found_landmarks.append(centres[:, None] + offsets * stride)
        found_confidence.append(1 / (1 + np.exp(-logits[chosen])))
    if not found_boxes:
        return []
    all_boxes = np.concatenate(found_boxes).astype(np.float32)
    all_landmarks = np.concatenate(found_landmarks).astype(np.float32)
    confidence = np.concatenate(found_confidence)
    finite = np.isfinite(all_boxes).all(1) & np.isfinite(all_landmarks).all((1, 2))
    all_boxes, all_landmarks = all_boxes[finite], all_landmarks[finite]
    confidence = confidence[finite]
    kept = non_maximum_suppression(all_boxes, confidence, max_overlap)
    faces = [
        DetectedFace(all_boxes[i], all_landmarks[i], float(confidence[i])) for i in kept.tolist()
    ]
    return sorted(faces, key=lambda face: -face.area_px)


def non_maximum_suppression(
    boxes_xyxy: NDArray[np.float32], scores: NDArray[np.float32], max_overlap: float
) -> NDArray[np.int64]:
    """Indices of the boxes that no better one overlaps by more than `max_overlap`, best first."""
    if not len(boxes_xyxy):
        return np.zeros(0, np.int64)
    sizes = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    xywh = np.concatenate([boxes_xyxy[:, :2], sizes], 1).tolist()
    kept = cv2.dnn.NMSBoxes(xywh, scores.tolist(), 0.0, max_overlap)
    return np.asarray(kept, np.int64).reshape(-1)
