"""How a face finder's cells become faces: shared by training, export and the runtime.

A map with stride s lays a grid over the input; its cell at column i and row j stands for the pixel
((i + 1/2) s, (j + 1/2) s). Each cell says 15 numbers: a score (a logit), a box as the offset of its
centre and the logarithms of its width and height, and five landmarks; offsets, sizes and landmarks
in units of s and relative to the cell's pixel. The cells of an input are listed map by map, the
finest first, row by row.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.detection import DetectedFace

STRIDES_PX = (8, 16, 32)
SCORE_CHANNELS, BOX_CHANNELS, LANDMARK_CHANNELS = 1, 4, 10
CELL_CHANNELS = SCORE_CHANNELS + BOX_CHANNELS + LANDMARK_CHANNELS
LARGEST_LOG_SIZE = 6.0
MAX_OVERLAP = 0.4
VOTING_OVERLAP = 0.6


def cell_centres(height: int, width: int, stride_px: int) -> NDArray[np.float32]:
    """(height * width, 2) float32 px, row by row, for a map of `height` x `width` cells."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return ((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride_px).astype(np.float32)


@lru_cache(maxsize=16)
def cells(height_px: int, width_px: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixels (M, 2) and strides (M,), both float32 px, of all cells of an input.

    height_px, width_px: multiples of 32. The arrays are shared between calls: not to be changed.
    """
    maps = [cell_centres(height_px // s, width_px // s, s) for s in STRIDES_PX]
    strides = [np.full(len(c), s, np.float32) for c, s in zip(maps, STRIDES_PX, strict=True)]
    return np.concatenate(maps), np.concatenate(strides)


def decode(
    answers: NDArray[np.float32],
    height_px: int,
    width_px: int,
    min_confidence: float,
    max_overlap: float = MAX_OVERLAP,
) -> list[DetectedFace]:
    """Faces in one input, largest first.

    answers: (M, 15) float32, the network's, for an input of `height_px` x `width_px`. After
    non-maximum suppression each face is the mean, weighted by confidence, of the cells that saw it
    too (boxes that overlap its own by 0.6 or more): neighbours err differently.
    """
    centres, strides = cells(height_px, width_px)
    if answers.shape != (len(centres), CELL_CHANNELS):
        raise ValueError(
            f"expected answers of shape {(len(centres), CELL_CHANNELS)} for {width_px} x "
            f"{height_px} px, found {answers.shape}"
        )
    threshold = np.log(min_confidence / (1 - min_confidence))
    chosen = np.flatnonzero((answers[:, 0] >= threshold) & np.isfinite(answers).all(1))
    if not len(chosen):
        return []
    rows, centre, stride = answers[chosen], centres[chosen], strides[chosen, None]
    confidence = np.asarray(1 / (1 + np.exp(-rows[:, 0])), np.float32)
    middle = centre + rows[:, 1:3] * stride
    half = np.exp(np.minimum(rows[:, 3:5], LARGEST_LOG_SIZE)) * stride / 2
    boxes = np.concatenate([middle - half, middle + half], 1)
    landmarks = centre[:, None] + rows[:, 5:].reshape(-1, 5, 2) * stride[..., None]
    faces = []
    for best in non_maximum_suppression(boxes, confidence, max_overlap):
        votes = confidence * (overlaps(boxes[best], boxes) >= VOTING_OVERLAP)
        votes /= votes.sum()
        faces.append(
            DetectedFace(
                (votes @ boxes).astype(np.float32),
                np.einsum("n,npc->pc", votes, landmarks).astype(np.float32),
                float(confidence[best]),
            )
        )
    return sorted(faces, key=lambda face: -face.area_px)


def overlaps(box_xyxy: NDArray[np.float32], boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of one (4,) box with each of (n, 4) boxes: (n,) float32."""
    low = np.maximum(box_xyxy[:2], boxes_xyxy[:, :2])
    high = np.minimum(box_xyxy[2:], boxes_xyxy[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    own = np.prod(box_xyxy[2:] - box_xyxy[:2])
    union = own + np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1) - shared
    return np.asarray(shared / np.maximum(union, 1e-6), np.float32)


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
