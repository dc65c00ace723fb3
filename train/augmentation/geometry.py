"""An alignment that is a little off, as a finder's landmarks are.

Pure functions of a crop, (H, W, 3) uint8 RGB, and a random generator.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Crop = NDArray[np.uint8]


def mirror(crop: Crop) -> Crop:
    """Left and right exchanged."""
    return np.ascontiguousarray(crop[:, ::-1])


def misalign(
    crop: Crop, shift_px: float, scale: float, rotate_deg: float, rng: np.random.Generator
) -> Crop:
    """Turn, scale and shift by normal draws with these standard deviations (scale: of its log).

    Beyond the edge it is black, as in `limen.alignment.align`.
    """
    if not (shift_px or scale or rotate_deg):
        return crop
    height, width = crop.shape[:2]
    angle_deg, log_scale, shift_x, shift_y = rng.normal(0.0, 1.0, 4)
    centre, factor = (width / 2, height / 2), float(np.exp(scale * log_scale))
    matrix = np.asarray(
        cv2.getRotationMatrix2D(centre, float(rotate_deg * angle_deg), factor), np.float64
    )
    matrix[:, 2] += shift_px * np.array([shift_x, shift_y])
    return cv2.warpAffine(crop, matrix, (width, height)).astype(np.uint8, copy=False)
