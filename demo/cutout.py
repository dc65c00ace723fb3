"""Cutting a person out of a picture, so that they can stand in front of a simulated camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.demo.people import Outline
from limen.detection import Detector, nearest_face

FACE_PX = 208.0  # a cut-out keeps about this many px of face: the nearest that anybody comes
BODY_BELOW_FACE = 6.0  # face widths of clothes below the face, continued where the picture ends

# Head, hair and shoulders of anybody, in face widths from the middle of the detected box.
_ANYBODY = (
    (0.0, -0.98), (-0.38, -0.90), (-0.64, -0.62), (-0.74, -0.20), (-0.72, 0.22), (-0.60, 0.60),
    (-0.52, 0.86), (-0.95, 1.05), (-1.45, 1.28), (-1.70, 1.70), (-1.80, 2.60), (-1.80, 9.0),
    (1.80, 9.0), (1.80, 2.60), (1.70, 1.70), (1.45, 1.28), (0.95, 1.05), (0.52, 0.86),
    (0.60, 0.60), (0.72, 0.22), (0.74, -0.20), (0.64, -0.62), (0.38, -0.90),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cutout:
    """A person without their surroundings.

    colour: (H, W, 3) float32, 0 to 255 and already multiplied by cover; cover: (H, W) float32, 0
    to 1; centre_xy: px, the middle of the face; face_px: its width as the detector boxes it.
    """

    colour: NDArray[np.float32]
    cover: NDArray[np.float32]
    centre_xy: tuple[float, float]
    face_px: float


def cut_out(
    picture: NDArray[np.uint8], detector: Detector, outline: Outline | None = None
) -> Cutout:
    """Cut the person with the nearest face out of an (H, W, 3) uint8 RGB picture.

    outline: the silhouette in px; without one, head and shoulders as most people have them, with
    a softer edge. NoFaceError where the detector finds nobody.
    """
    face = nearest_face(detector.detect(picture))
    left, top, right, bottom = (float(value) for value in face.box_xyxy)
    x, y, width = (left + right) / 2, (top + bottom) / 2, face.width_px
    points = (
        np.array(outline, np.float32)
        if outline is not None
        else np.array(_ANYBODY, np.float32) * width + np.array([x, y], np.float32)
    )
    scale = min(1.0, FACE_PX / width)
    small = _scaled(picture, scale)
    soft_px = scale * width * (0.012 if outline is not None else 0.06)
    cover = _silhouette(small.shape[:2], points * scale, soft_px)
    colour = small.astype(np.float32) * cover[..., None]
    below = int(max(0.0, (y + BODY_BELOW_FACE * width) * scale - small.shape[0]))
    colour, cover = _longer(colour, cover, below)
    return Cutout(colour, cover, (x * scale, y * scale), width * scale)


def _scaled(picture: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale >= 1:
        return picture
    return np.asarray(
        cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )


def _silhouette(
    shape: tuple[int, int], points_xy: NDArray[np.float32], soft_px: float
) -> NDArray[np.float32]:
    """Cover (H, W), 1 inside the polygon, with its edge drawn inward and feathered."""
    pad = 40  # the lower edge of the picture is no edge of the person
    mask = np.zeros((shape[0] + 2 * pad, shape[1] + 2 * pad), np.uint8)
    at_foot = points_xy[:, 1] >= shape[0] - 3
    beyond = points_xy + np.where(at_foot, pad, 0)[:, None] * np.array([0, 1])
    cv2.fillPoly(mask, [np.round(beyond + pad).astype(np.int32)], (255,), cv2.LINE_AA)
    rounded = cv2.GaussianBlur(mask, (0, 0), max(1.5, 1.5 * soft_px))
    crisp = np.clip((rounded.astype(np.float32) / 255 - 0.5) * 2.2, 0, 1)
    return np.asarray(
        cv2.GaussianBlur(crisp, (0, 0), max(0.8, soft_px))[pad:-pad, pad:-pad], np.float32
    )


def _longer(
    colour: NDArray[np.float32], cover: NDArray[np.float32], rows: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Continue the clothes downwards: a portrait ends at the chest, a visitor does not."""
    if rows == 0:
        return colour, cover
    last = slice(-6, -1)
    edge = cover[last].mean(axis=0, keepdims=True)
    cloth = np.median(colour[last], axis=0)[None] / np.maximum(edge, 0.05)[..., None]
    cloth = cv2.blur(cv2.medianBlur(cloth.astype(np.uint8), 81), (41, 1))
    fade = np.linspace(1.0, 0.72, rows, dtype=np.float32)[:, None, None]
    more = cloth * edge[..., None] * fade
    return (
        np.concatenate([colour, more.astype(np.float32)]),
        np.concatenate([cover, np.repeat(edge, rows, axis=0)]).astype(np.float32),
    )
