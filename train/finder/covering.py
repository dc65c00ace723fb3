"""Faces partly covered: sunglasses, masks, hats, hands and what stands before a door's camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.alignment import CROP_PX, TEMPLATE_XY, align, similarity_transform
from limen.train.augmentation.occlusion import face_mask, sunglasses
from limen.train.finder.backdrops import pattern
from limen.train.finder.placing import Scene
from limen.train.finder.source import Image

SMALLEST_PX = 20.0  # of a face that something is drawn on
PROFILE_EYES = 0.28  # eyes closer than this share of the face's side: nothing fits a profile
LARGEST_SHARE = 0.45  # of a face's side, hidden from the left, the right or below


def cover_faces(scene: Scene, share: float, rng: np.random.Generator) -> Scene:
    """Each face of the scene covered with probability `share`; its labels stay as they are."""
    image = scene.image
    for box, points in zip(scene.boxes_xyxy, scene.landmarks_xy, strict=True):
        if rng.random() >= share:
            continue
        side_px = float((box[2:] - box[:2]).max())
        if side_px < SMALLEST_PX:
            continue
        kind = rng.random()
        fits = not np.isnan(points).any() and (
            np.linalg.norm(points[1] - points[0]) > PROFILE_EYES * side_px
        )
        if kind < 0.5 and fits:
            image = _worn(image, points, kind < 0.32, rng)
        elif kind < 0.75:
            image = _hat_or_hand(image, box, rng)
        else:
            image = _edge(image, box, rng)
    return Scene(image, scene.boxes_xyxy, scene.landmarks_xy, scene.ignored_xyxy)


def _worn(
    image: Image, points: NDArray[np.float32], glasses: bool, rng: np.random.Generator
) -> Image:
    """Sunglasses or a mask, drawn on the aligned crop and brought back where it changed."""
    crop = align(image, points)
    drawn = sunglasses(crop, rng) if glasses else face_mask(crop, rng)
    changed = (np.abs(drawn.astype(np.int16) - crop).max(2) > 2).astype(np.float32)
    matrix = similarity_transform(TEMPLATE_XY, points)
    corners = np.array([[0, 0], [CROP_PX, 0], [CROP_PX, CROP_PX], [0, CROP_PX]], np.float32)
    reached = corners @ matrix[:, :2].T + matrix[:, 2]
    low = np.maximum(np.floor(reached.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(reached.max(0)).astype(int), np.array(image.shape[1::-1]))
    if (high <= low).any():
        return image
    matrix[:, 2] -= low
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    over = cv2.warpAffine(drawn, matrix, size, flags=cv2.INTER_LINEAR)
    weight = cv2.warpAffine(changed, matrix, size, flags=cv2.INTER_LINEAR)[..., None]
    covered = image.copy()
    part = covered[low[1] : high[1], low[0] : high[0]]
    part[:] = (part + weight * (over.astype(np.float32) - part)).astype(np.uint8)
    return covered


def _hat_or_hand(image: Image, box: NDArray[np.float32], rng: np.random.Generator) -> Image:
    """An ellipse over brow, cheek or chin, in a colour of the picture or in any."""
    size = box[2:] - box[:2]
    hat = rng.random() < 0.4
    if hat:
        middle = box[:2] + size * [rng.uniform(0.3, 0.7), rng.uniform(-0.12, 0.06)]
        axes = size * [rng.uniform(0.5, 0.8), rng.uniform(0.12, 0.26)]
    else:
        middle = box[:2] + size * [rng.uniform(0, 1), rng.uniform(0.35, 1.05)]
        axes = size * [rng.uniform(0.1, 0.3), rng.uniform(0.15, 0.4)]
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        y, x = int(rng.integers(height)), int(rng.integers(width))
        colour = tuple(int(v) for v in image[y, x])
    else:
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
    covered = image.copy()
    centre = (int(middle[0]), int(middle[1]))
    reach = (max(1, int(axes[0])), max(1, int(axes[1])))
    angle = float(rng.normal(0, 10) if hat else rng.uniform(0, 180))
    cv2.ellipse(covered, centre, reach, angle, 0, 360, colour, -1, cv2.LINE_AA)
    return covered


def _edge(image: Image, box: NDArray[np.float32], rng: np.random.Generator) -> Image:
    """What hides a face from the left, the right or below: a door's frame, another's shoulder."""
    height, width = image.shape[:2]
    share = rng.uniform(0.12, LARGEST_SHARE)
    low, high = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
    reach = ((high - low) * share).astype(int)
    side = int(rng.integers(3))
    left, top, right, bottom = int(low[0]), int(low[1]), int(high[0]), int(high[1])
    if side == 0:
        right = left + int(reach[0])
        left -= int(reach[0])
    elif side == 1:
        left = right - int(reach[0])
        right += int(reach[0])
    else:
        top = bottom - int(reach[1])
        bottom += int(reach[1])
    left, right = max(0, left), min(width, right)
    top, bottom = max(0, top), min(height, bottom)
    if right - left < 2 or bottom - top < 2:
        return image
    covered = image.copy()
    covered[top:bottom, left:right] = pattern((bottom - top, right - left), rng)
    return covered
