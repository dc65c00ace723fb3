"""Scenes to learn finding from: labelled pictures turned, scaled and composed at random.

A door's camera sees one face or several, near or far, at the frame's edge, in bad light, or none
at all. A scene is one picture placed at random, a mosaic of several small ones, or background
alone. Everything follows from the random generator, so that a step repeats exactly.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.train.finder.backdrops import face_free_part, pattern
from limen.train.finder.labels import LANDMARKS, Labels

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

MIRRORED = np.array([1, 0, 2, 4, 3])
SMALLEST_PX, LARGEST_PX = 12.0, 230.0
LARGEST_ENLARGEMENT = 1.8
PICTURED = 0.7  # the share of backdrops from pictures
LEAST_VISIBLE = 0.45  # of a face's box; less is ignored
MOSAICS = ((1, 2), (2, 2), (2, 2), (2, 3), (3, 4))


@dataclass(frozen=True)
class Scene:
    """image: (H, W, 3) uint8 RGB; faces as in Labels, in px of the scene."""

    image: Image
    boxes_xyxy: Floats
    landmarks_xy: Floats
    ignored_xyxy: Floats


class Source(Protocol):
    """Pictures with faces to compose from."""

    def __len__(self) -> int: ...

    def labels(self, index: int) -> tuple[Labels, tuple[int, int]]:
        """A picture's labels, in its own px, and its height and width."""

    def read(self, index: int, scale: float = 1.0) -> Image:
        """A picture, smaller than its own size where `scale` of it is enough."""


@dataclass(frozen=True)
class SceneSettings:
    """How often a scene is of which kind; the rest is one picture placed at random."""

    height_px: int = 256
    width_px: int = 320
    mosaic: float = 0.3
    background: float = 0.12
    turned: float = 0.08


def compose(source: Source, settings: SceneSettings, rng: np.random.Generator) -> Scene:
    """One scene."""
    kind = rng.random()
    size = (settings.height_px, settings.width_px)
    if kind < settings.background:
        scene = without_faces(backdrop(size, rng, source))
    elif kind < settings.background + settings.mosaic:
        scene = _mosaic(source, settings, rng)
    else:
        scene = _single(source, size, settings, rng, None)
    if rng.random() < 0.5:
        scene = mirrored(scene)
    return Scene(_spoil(scene.image, rng), scene.boxes_xyxy, scene.landmarks_xy, scene.ignored_xyxy)


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


def _single(
    source: Source,
    size: tuple[int, int],
    settings: SceneSettings,
    rng: np.random.Generator,
    largest_px: float | None,
) -> Scene:
    """One picture with a face of a chosen size somewhere in the scene."""
    index = int(rng.integers(len(source)))
    labels, _ = source.labels(index)
    height, width = size
    face = int(rng.integers(len(labels.boxes_xyxy)))
    box = labels.boxes_xyxy[face]
    side = float(np.sqrt(max(1.0, float(np.prod(box[2:] - box[:2])))))
    most = largest_px or min(LARGEST_PX, 0.9 * min(size))
    wanted = float(np.exp(rng.uniform(np.log(min(SMALLEST_PX, most / 2)), np.log(most))))
    scale = min(wanted / side, LARGEST_ENLARGEMENT)
    turned = rng.random() < settings.turned
    angle = rng.uniform(-60, 60) if turned else rng.normal(0, 9)
    centre = (box[:2] + box[2:]) / 2
    # Beyond the edge by up to a third of the face, now and then.
    margin = scale * side * (-0.35 if rng.random() < 0.15 else 0.5)
    target = [
        rng.uniform(min(margin, extent / 2), max(extent - margin, extent / 2))
        for extent in (width, height)
    ]
    matrix = np.asarray(
        cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), float(angle), scale),
        np.float64,
    )
    matrix[:, 2] += np.asarray(target) - centre
    return place(index, size, matrix, rng, source)


def _mosaic(source: Source, settings: SceneSettings, rng: np.random.Generator) -> Scene:
    rows, columns = MOSAICS[int(rng.integers(len(MOSAICS)))]
    height, width = settings.height_px, settings.width_px
    ys = np.linspace(0, height, rows + 1).astype(int)
    xs = np.linspace(0, width, columns + 1).astype(int)
    canvas = np.zeros((height, width, 3), np.uint8)
    parts: list[Scene] = []
    for top, bottom in itertools.pairwise(ys):
        for left, right in itertools.pairwise(xs):
            size = (int(bottom - top), int(right - left))
            part = _single(source, size, settings, rng, 0.9 * min(size))
            canvas[top:bottom, left:right] = part.image
            corner = np.array([left, top], np.float32)
            parts.append(
                Scene(
                    part.image,
                    part.boxes_xyxy + np.tile(corner, 2),
                    part.landmarks_xy + corner,
                    part.ignored_xyxy + np.tile(corner, 2),
                )
            )
    return Scene(
        canvas,
        np.concatenate([p.boxes_xyxy for p in parts]),
        np.concatenate([p.landmarks_xy for p in parts]),
        np.concatenate([p.ignored_xyxy for p in parts]),
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


def backdrop(size: tuple[int, int], rng: np.random.Generator, source: Source) -> Image:
    """(height, width, 3) uint8 without a face: part of some picture of `source`, or a pattern."""
    if rng.random() < PICTURED:
        index = int(rng.integers(len(source)))
        labels, own_size = source.labels(index)
        part = face_free_part(labels, own_size, size, rng)
        if part is not None:
            image = source.read(index, size[0] / (part[3] - part[1]))
            left, top, right, bottom = (part * image.shape[1] / own_size[1]).astype(int)
            cut = image[top : max(bottom, top + 1), left : max(right, left + 1)]
            method = cv2.INTER_AREA if cut.shape[0] > size[0] else cv2.INTER_LINEAR
            return np.asarray(cv2.resize(cut, size[::-1], interpolation=method), np.uint8)
    return pattern(size, rng)


def without_faces(image: Image) -> Scene:
    """The scene of a picture that holds no face."""
    nothing = np.zeros((0, 4), np.float32)
    return Scene(image, nothing, np.zeros((0, LANDMARKS, 2), np.float32), nothing)


def _spoil(image: Image, rng: np.random.Generator) -> Image:
    """Light, blur, noise, compression, loss of colour."""
    gamma = float(np.exp(rng.uniform(-0.5, 0.5)))
    gain = float(np.exp(rng.uniform(-0.35, 0.25)))
    if rng.random() < 0.1:  # a dark doorway
        gain *= rng.uniform(0.12, 0.5)
    levels = (np.arange(256, dtype=np.float32) / 255) ** gamma
    tint = np.exp(rng.uniform(-0.06, 0.06, 3))
    curve = np.clip(255 * levels[:, None] * gain * tint + 0.5, 0, 255).astype(np.uint8)
    image = np.asarray(cv2.LUT(image, curve[None]), np.uint8)
    if rng.random() < 0.15:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4)), np.uint8)
    if rng.random() < 0.12:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        image = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)
    if rng.random() < 0.2:
        noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(2, 12)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        quality = int(rng.integers(25, 80))
        _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image
