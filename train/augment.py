"""What a door does to a face: light, blur, distance, noise, and an alignment that is a little off.

Pure functions of a crop and a random generator, so that a step repeats exactly.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Crop = NDArray[np.uint8]


class Augmentation(BaseModel):
    """How much a training crop is changed; a probability is per crop."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: bool = Field(True, description="mirror half of the crops")
    shift_px: float = Field(2.0, ge=0, le=20, description="standard deviation of the shift")
    scale: float = Field(0.04, ge=0, le=0.3, description="standard deviation of log scale")
    rotate_deg: float = Field(2.5, ge=0, le=45, description="standard deviation of the rotation")
    light: float = Field(0.25, ge=0, le=1, description="largest change of gain and gamma")
    grey: float = Field(0.1, ge=0, le=1, description="probability of a grey picture")
    blur: float = Field(0.15, ge=0, le=1, description="probability of a blur")
    low_resolution: float = Field(0.15, ge=0, le=1, description="probability of a far face")
    noise: float = Field(0.15, ge=0, le=1, description="probability of sensor noise")


def augment(crop: Crop, settings: Augmentation, rng: np.random.Generator) -> Crop:
    """Return a changed copy of (H, W, 3) uint8 RGB `crop`."""
    if settings.flip and rng.random() < 0.5:
        crop = np.ascontiguousarray(crop[:, ::-1])
    crop = _misalign(crop, settings, rng)
    if rng.random() < settings.low_resolution:
        crop = _far_away(crop, rng)
    if rng.random() < settings.blur:
        crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.6)), np.uint8)
    if rng.random() < settings.grey:
        grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        crop = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)
    crop = np.asarray(cv2.LUT(crop, _light_curve(settings.light, rng)), np.uint8)
    if rng.random() < settings.noise:
        crop = _add_noise(crop, rng)
    return crop


def _misalign(crop: Crop, settings: Augmentation, rng: np.random.Generator) -> Crop:
    side = crop.shape[0]
    centre = (side / 2, side / 2)
    angle = rng.normal(0, settings.rotate_deg) if settings.rotate_deg else 0.0
    scale = float(np.exp(rng.normal(0, settings.scale))) if settings.scale else 1.0
    matrix = cv2.getRotationMatrix2D(centre, float(angle), scale)
    if settings.shift_px:
        shift = np.zeros((2, 3))
        shift[:, 2] = rng.normal(0, settings.shift_px, 2)
        matrix = np.asarray(matrix + shift, np.float64)
    moved = cv2.warpAffine(crop, matrix, (side, side), borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(moved, np.uint8)


def _far_away(crop: Crop, rng: np.random.Generator) -> Crop:
    side = crop.shape[0]
    small = int(side * rng.uniform(0.2, 0.7))
    reduced = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(reduced, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.uint8)


def _light_curve(strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    gamma = np.exp(rng.uniform(-2 * strength, 2 * strength))
    gain = np.exp(rng.uniform(-strength, strength)) * np.exp(
        rng.uniform(-strength / 5, strength / 5, 3)
    )
    levels = (np.arange(256, dtype=np.float32) / 255) ** gamma
    curves = np.clip(255 * levels[:, None] * gain + 0.5, 0, 255)
    return np.asarray(curves, np.uint8)[None]


def _add_noise(crop: Crop, rng: np.random.Generator) -> Crop:
    noise = rng.standard_normal(crop.shape, np.float32) * rng.uniform(2, 14)
    return np.clip(crop + noise, 0, 255).astype(np.uint8)
