"""Pictures put into scenes: the pixels, and where the faces come to lie among them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.train.finder.backdrops import backdrop
from limen.train.finder.labels import LANDMARKS
from limen.train.finder.source import Image, Source

Floats = NDArray[np.float32]

MIRRORED = np.array([1, 0, 2, 4, 3])
LEAST_VISIBLE = 0.45  # of a face's box; less is ignored


@dataclass(frozen=True)
class Scene:
    """image: (H, W, 3) uint8 RGB; faces as in Labels, in px of the scene."""

    image: Image
    boxes_xyxy: Floats
    landmarks_xy: Floats
    ignored_xyxy: Floats


def mirrored(scene: Scene) -> Scene:
    """The scene in a mirror; the landmark on the picture's left stays first."""
    width = scene.image.shape[1]

    def boxes(old: Floats) -> Floats:
        new = old.copy()
        new[:, [0, 2]] = width - old[:, [2, 0]]
        return new

    landmarks = scene.landmarks_xy[:, MIRRORED].copy()
    landmarks[..., 0] = width - 1 - landmarks[..., 0]
    return Scene(
        np.ascontiguousarray(scene.image[:, ::-1]),
        boxes(scene.boxes_xyxy),
        landmarks,
        boxes(scene.ignored_xyxy),
    )


def place(
    index: int,
    size: tuple[int, int],
    matrix: NDArray[np.float64],
    rng: np.random.Generator,
    source: Source,
) -> Scene:
    """Picture `index` of `source`, moved by the (2, 3) `matrix` into a scene of (height, width)."""
    height, width = size
    labels, (own_height, own_width) = source.labels(index)
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    image = source.read(index, scale)
    if scale < 0.5:  # a warp reads four pixels only: shrink first, or small faces alias
        shrunk = (max(1, round(2 * scale * own_width)), max(1, round(2 * scale * own_height)))
        if shrunk[0] < image.shape[1]:
            image = np.asarray(cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA), np.uint8)
    factors = np.array([image.shape[1] / own_width, image.shape[0] / own_height])
    drawn = np.concatenate([matrix[:, :2] / factors, matrix[:, 2:]], 1)
    # Half a pixel, since the middle of the first one is at 0, whatever a pixel's size.
    drawn[:, 2] += drawn[:, :2] @ ((1 - factors) / 2)
    if _covers(matrix, (own_height, own_width), size):
        canvas = cv2.warpAffine(image, drawn, (width, height))
    else:
        canvas = cv2.warpAffine(
            image,
            drawn,
            (width, height),
            dst=backdrop(size, rng, source),
            borderMode=cv2.BORDER_TRANSPARENT,
        )
    boxes, landmarks, ignored = [], [], [list(_moved(b, matrix)) for b in labels.ignored_xyxy]
    for box, points in zip(labels.boxes_xyxy, labels.landmarks_xy, strict=True):
        whole = _moved(box, matrix)
        seen = np.clip(whole, 0, [width, height, width, height])
        area = float(np.prod(whole[2:] - whole[:2]))
        visible = float(np.prod(np.maximum(seen[2:] - seen[:2], 0))) / max(area, 1e-6)
        if visible <= 0.02:
            continue
        if visible < LEAST_VISIBLE:
            ignored.append(list(seen))
            continue
        boxes.append(seen)
        landmarks.append(points @ matrix[:, :2].T + matrix[:, 2])
    return Scene(
        np.asarray(canvas, np.uint8),
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(landmarks, np.float32).reshape(-1, LANDMARKS, 2),
        np.asarray(ignored, np.float32).reshape(-1, 4),
    )


def _moved(box: Floats, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upright box of a box that was turned by a matrix: same middle, sides scaled.

    The hull of the turned corners would grow with the angle; a face does not.
    """
    middle = matrix[:, :2] @ ((box[:2] + box[2:]) / 2) + matrix[:, 2]
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    half = (box[2:] - box[:2]) / 2 * scale
    return np.concatenate([middle - half, middle + half])


def _covers(
    matrix: NDArray[np.float64], picture_size: tuple[int, int], size: tuple[int, int]
) -> bool:
    """Whether a picture that `matrix` moves reaches all corners of the scene."""
    height, width = size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
    there = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return bool((there >= 0).all() and (there <= np.array(picture_size[::-1]) - 1).all())


def without_faces(image: Image) -> Scene:
    """The scene of a picture that holds no face."""
    nothing = np.zeros((0, 4), np.float32)
    return Scene(image, nothing, np.zeros((0, LANDMARKS, 2), np.float32), nothing)
