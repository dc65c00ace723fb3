"""What lies behind and around faces: parts of pictures that hold none, and drawn patterns."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.train.finder.labels import Labels
from limen.train.finder.source import Image, Source

PICTURED = 0.7  # the share of backdrops from pictures
TRIES = 6
CLEARANCE = 0.12  # of a face's side, kept free around it
LEAST_SHARE = 0.25  # of the picture's shorter side
PATTERNS = 5


def backdrop(size: tuple[int, int], rng: np.random.Generator, source: Source) -> Image:
    """(height, width, 3) uint8 without a face: part of some picture of `source`, or a pattern."""
    found = pictured(size, rng, source) if rng.random() < PICTURED else None
    return pattern(size, rng) if found is None else found


def pictured(size: tuple[int, int], rng: np.random.Generator, source: Source) -> Image | None:
    """Part of some picture of `source` beside its faces, or None where that has no room.

    For sizes of one shape it is the same part, larger or smaller.
    """
    index = int(rng.integers(len(source)))
    labels, own_size = source.labels(index)
    part = face_free_part(labels, own_size, size, rng)
    if part is None:
        return None
    image = source.read(index, size[0] / (part[3] - part[1]))
    left, top, right, bottom = (part * image.shape[1] / own_size[1]).astype(int)
    cut = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    method = cv2.INTER_AREA if cut.shape[0] > size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cut, size[::-1], interpolation=method), np.uint8)


def face_free_part(
    labels: Labels,
    picture_size: tuple[int, int],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float64] | None:
    """A random rectangle of a picture that touches no face, of the shape of `size`.

    Sizes are (height, width). (4,) px, left, top, right, bottom; None where a few tries find no
    room beside the faces.
    """
    height, width = picture_size
    taken = np.concatenate([labels.boxes_xyxy, labels.ignored_xyxy]).astype(np.float64)
    margin = CLEARANCE * (taken[:, 2:] - taken[:, :2])
    taken = np.concatenate([taken[:, :2] - margin, taken[:, 2:] + margin], 1)
    largest = min(width / size[1], height / size[0])
    smallest = min(largest, LEAST_SHARE * min(width, height) / min(size))
    for attempt in range(TRIES):
        # Smaller and smaller, so that a picture full of faces gives something too.
        most = largest * (smallest / largest) ** (attempt / TRIES)
        scale = float(np.exp(rng.uniform(np.log(smallest), np.log(most))))
        part = np.array([scale * size[1], scale * size[0]])
        corner = rng.uniform(0, 1, 2) * np.maximum([width - part[0], height - part[1]], 0)
        if not ((taken[:, :2] < corner + part) & (taken[:, 2:] > corner)).all(1).any():
            return np.concatenate([corner, corner + part])
    return None


def pattern(size: tuple[int, int], rng: np.random.Generator) -> Image:
    """A drawn surface of (height, width) px: shades, cloth and clouds, stripes, discs, blocks.

    What rooms are full of and portraits are not: walls, curtains, tiles, lamps, text.
    """
    height, width = size
    shades = _shades(size, rng).astype(np.float32)
    kind = int(rng.integers(PATTERNS))
    if kind == 0:
        return shades.astype(np.uint8)
    if kind == 1:
        relief = _clouds(size, rng)
    elif kind == 2:
        angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(3), np.log(80)))
        y, x = np.mgrid[:height, :width].astype(np.float32)
        relief = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
        if rng.random() < 0.5:
            relief = relief * np.sin((y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / period)
        if rng.random() < 0.5:
            relief = np.sign(relief)
    else:
        canvas = shades.astype(np.uint8)
        side = float(np.exp(rng.uniform(np.log(3), np.log(60))))
        for _ in range(int(min(150, 0.4 * height * width / side**2)) + 1):
            colour = tuple(int(v) for v in rng.integers(0, 256, 3))
            x, y = int(rng.integers(width)), int(rng.integers(height))
            radius = max(1, int(side * rng.uniform(0.4, 1.2)))
            if kind == 3:
                axes = (radius, max(1, int(radius * rng.uniform(0.6, 1.0))))
                thickness = -1 if rng.random() < 0.6 else max(1, radius // 6)
                cv2.ellipse(canvas, (x, y), axes, rng.uniform(0, 180), 0, 360, colour, thickness)
            else:
                corner = (x + radius, y + max(1, int(radius * rng.uniform(0.2, 1.5))))
                cv2.rectangle(canvas, (x, y), corner, colour, -1)
        return canvas
    strength = rng.uniform(10, 90) * rng.uniform(0.3, 1.0, 3)
    drawn = shades + relief[..., None] * strength
    return np.clip(drawn, 0, 255).astype(np.uint8)


def _shades(size: tuple[int, int], rng: np.random.Generator) -> Image:
    colours = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    if rng.random() < 0.5:  # one colour, unevenly lit
        light = rng.uniform(0.5, 1.0, (2, 2, 1))
        colours = (colours[:1, :1] * light).astype(np.uint8)
    return np.asarray(cv2.resize(colours, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _clouds(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise at several scales, about -1 to 1."""
    height, width = size
    relief = np.zeros(size, np.float32)
    roughness = rng.uniform(0.4, 1.1)
    cells, weight = 4, 1.0
    while cells < width:
        coarse = rng.standard_normal((max(2, cells * height // width), cells), np.float32)
        relief += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2, weight * roughness
    return np.asarray(relief / max(1e-6, float(np.abs(relief).max())), np.float32)
