"""Face masks and sunglasses, drawn where the aligned template has eyes, nose and mouth.

Pure functions of a crop, (H, W, 3) uint8 RGB whose landmarks lie on `TEMPLATE_XY` (scaled from
112 px to the crop's size), and a random generator. Shapes are polygons with shading, their corners
jittered, since no two are worn alike.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.alignment import CROP_PX, TEMPLATE_XY
from limen.train.augmentation.geometry import Crop

Points = NDArray[np.float64]

_LEFT_EYE, _RIGHT_EYE, _NOSE, _LEFT_MOUTH, _RIGHT_MOUTH = TEMPLATE_XY.astype(np.float64)
_EYE_DISTANCE_PX = float(np.hypot(*(_RIGHT_EYE - _LEFT_EYE)))
_MIDDLE_X = float((_LEFT_EYE[0] + _RIGHT_EYE[0]) / 2)
_EYE_Y = float((_LEFT_EYE[1] + _RIGHT_EYE[1]) / 2)
_MOUTH_Y = float((_LEFT_MOUTH[1] + _RIGHT_MOUTH[1]) / 2)

_SURGICAL_RGB = ((150, 190, 215), (225, 230, 232), (160, 205, 190), (215, 170, 190), (60, 62, 68))
_LENS_RGB = ((18, 18, 20), (45, 30, 20), (25, 38, 28), (30, 34, 60), (95, 100, 110))

# Fixed point of OpenCV's drawing: four bits of fraction, so that edges move smoothly.
_SHIFT = 4


def face_mask(crop: Crop, rng: np.random.Generator) -> Crop:
    """A surgical or cloth mask over nose, mouth and chin; one in seven is worn under the nose."""
    d = _EYE_DISTANCE_PX
    under_nose = rng.random() < 1 / 7
    rise = rng.uniform(1.05, 1.2) if under_nose else rng.uniform(0.3, 0.75)
    top_y = _EYE_Y + rise * (float(_NOSE[1]) - _EYE_Y)
    left_x, right_x = (
        _MIDDLE_X - rng.uniform(0.95, 1.15) * d,
        _MIDDLE_X + rng.uniform(0.95, 1.15) * d,
    )
    side_y = top_y + rng.uniform(0.1, 0.35) * d
    chin_y = _MOUTH_Y + rng.uniform(0.55, 0.85) * d
    corners = np.array(
        [
            [_MIDDLE_X, top_y],
            [_MIDDLE_X + 0.4 * d, top_y + 0.12 * d],
            [right_x, side_y],
            [right_x - 0.12 * d, _MOUTH_Y + 0.1 * d],
            [_MIDDLE_X + 0.45 * d, chin_y],
            [_MIDDLE_X - 0.45 * d, chin_y],
            [left_x + 0.12 * d, _MOUTH_Y + 0.1 * d],
            [left_x, side_y],
            [_MIDDLE_X - 0.4 * d, top_y + 0.12 * d],
        ]
    )
    corners += rng.normal(0, 1.2, corners.shape)
    scale = crop.shape[0] / CROP_PX
    surgical = rng.random() < 0.65
    colour = np.array(
        _SURGICAL_RGB[rng.integers(len(_SURGICAL_RGB))] if surgical else rng.uniform(15, 235, 3)
    ) + rng.normal(0, 8, 3)
    texture = _cloth(crop.shape[0], colour, pleated=surgical, rng=rng)
    cover = _polygon_cover(crop, corners * scale)
    covered = _blend(crop, texture, cover, 1.0)
    if surgical:  # the loops to the ears
        loop = tuple(float(v) for v in np.clip(colour + 25, 0, 255))
        for corner, edge_x in ((corners[2], CROP_PX), (corners[7], 0.0)):
            end = np.array([edge_x, corner[1] - rng.uniform(2, 10)])
            _line(covered, corner * scale, end * scale, loop)
    return covered


def sunglasses(crop: Crop, rng: np.random.Generator) -> Crop:
    """Two dark lenses with a lighter lower rim and a glint, a bridge, and the temples."""
    d = _EYE_DISTANCE_PX
    scale = crop.shape[0] / CROP_PX
    half_width, half_height = rng.uniform(0.36, 0.46) * d, rng.uniform(0.24, 0.36) * d
    squareness = rng.uniform(1.8, 4.5)
    drop = rng.uniform(0, 0.1) * d
    shift = rng.normal(0, 1.2, 2) + np.array([0, drop])
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    # A superellipse; narrowed towards the nose below, it becomes an aviator's drop.
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / squareness)
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / squareness)
    taper = rng.uniform(0, 0.3)
    frame_rgb = tuple(float(v) for v in rng.uniform(5, 70, 3))
    lens_rgb = np.array(_LENS_RGB[rng.integers(len(_LENS_RGB))]) + rng.normal(0, 5, 3)
    worn = crop.copy()
    thickness = int(rng.integers(1, 4))
    centres = [eye + shift for eye in (_LEFT_EYE, _RIGHT_EYE)]
    bridge_y = centres[0][1] - 0.3 * half_height
    for towards_nose, centre, edge_x in ((1, centres[0], 0.0), (-1, centres[1], float(CROP_PX))):
        lens_x = x * half_width * (1 - taper * np.clip(y, 0, 1) * (x * towards_nose > 0))
        rim = (centre + np.stack([lens_x, y * half_height], 1)) * scale
        outer = centre - [towards_nose * half_width, 0.35 * half_height]
        _line(worn, outer * scale, np.array([edge_x, outer[1]]) * scale, frame_rgb, thickness)
        inner = np.array([centre[0] + towards_nose * 0.85 * half_width, bridge_y])
        _line(worn, inner * scale, np.array([_MIDDLE_X, bridge_y]) * scale, frame_rgb, thickness)
        cover = _polygon_cover(worn, rim)
        worn = _blend(worn, _lens(crop.shape[0], lens_rgb, rng), cover, rng.uniform(0.78, 1.0))
        points = np.round(rim * 2**_SHIFT).astype(np.int32)
        cv2.polylines(worn, [points], True, frame_rgb, thickness, cv2.LINE_AA, _SHIFT)
    return worn


def _cloth(side: int, colour: Points, pleated: bool, rng: np.random.Generator) -> Points:
    """Cloth over a face: darker towards the cheeks and the chin, pleats or a weave across it."""
    across = np.linspace(-1, 1, side) - rng.uniform(-0.35, 0.35)
    down = np.linspace(-1, 1, side)
    shade = (1.08 - rng.uniform(0.15, 0.45) * across**2)[None, :]
    shade = shade * (1.0 - rng.uniform(0, 0.2) * down)[:, None]
    if pleated:
        pleats = rng.uniform(0.03, 0.1) * np.sin(rng.uniform(14, 24) * down + rng.uniform(0, 6))
        shade = shade + pleats[:, None]
    elif rng.random() < 0.5:
        stripes = np.sin(rng.uniform(10, 40) * across + rng.uniform(0, 6))[None, :]
        checks = np.sin(rng.uniform(10, 40) * down + rng.uniform(0, 6))[:, None]
        shade = shade + rng.uniform(0.05, 0.3) * (stripes * checks)
    return np.asarray(shade[:, :, None] * colour, np.float64)


def _lens(side: int, colour: Points, rng: np.random.Generator) -> Points:
    """A lens: lighter downwards, with a slanting glint."""
    down = np.linspace(0, 1, side)[:, None]
    across = np.linspace(0, 1, side)[None, :]
    lighter = rng.uniform(0, 60) * np.clip(2 * down - 0.6, 0, 1)
    place = rng.uniform(0.2, 0.9)
    glint = rng.uniform(0, 90) * np.clip(1 - 18 * np.abs(across + 0.5 * down - place - 0.2), 0, 1)
    return np.asarray(colour + (lighter + glint)[:, :, None], np.float64)


def _polygon_cover(crop: Crop, corners: Points) -> NDArray[np.uint8]:
    cover = np.zeros(crop.shape[:2], np.uint8)
    points = np.round(corners * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(cover, [points], (255,), cv2.LINE_AA, _SHIFT)
    return cover


def _blend(crop: Crop, texture: Points, cover: NDArray[np.uint8], opacity: float) -> Crop:
    """`texture` over `crop` where `cover` is 255; only the rows and columns that it touches."""
    x, y, width, height = cv2.boundingRect(cover)
    part = np.s_[y : y + height, x : x + width]
    weight = cover[part][:, :, None] * np.float32(opacity / 255)
    below = crop[part].astype(np.float32)
    blended = crop.copy()
    # A slight noise-free cloth looks pasted on; what lies below shades it a little.
    over = np.clip(texture[part], 0, 255).astype(np.float32)
    blended[part] = (below + weight * (over - below)).astype(np.uint8)
    return blended


def _line(
    crop: Crop,
    start: Points,
    stop: Points,
    colour: tuple[float, ...],
    thickness: int = 1,
) -> None:
    ends = np.round(np.stack([start, stop]) * 2**_SHIFT).astype(int)
    first, second = ((int(x), int(y)) for x, y in ends)
    cv2.line(crop, first, second, colour, thickness, cv2.LINE_AA, _SHIFT)
