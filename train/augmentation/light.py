"""Light at a door: gain and gamma, the dark with a sensor's noise, and light from behind.

Pure functions of a crop, (H, W, 3) uint8 RGB, and a random generator.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.train.augmentation.geometry import Crop

# A display's exponent; close enough to sRGB's curve for light that is drawn at random.
_ENCODING_GAMMA = 2.2
_LEVELS = (np.arange(256, dtype=np.float32) / 255).astype(np.float32)
_LINEAR = (_LEVELS**_ENCODING_GAMMA).astype(np.float32)


def change_light(crop: Crop, strength: float, rng: np.random.Generator) -> Crop:
    """Another gamma, gain, and a slight colour cast.

    Log-uniform: gamma within exp(±2 strength), gain within exp(±strength), each channel's cast
    within exp(±strength / 5).
    """
    if not strength:
        return crop
    gamma, gain = np.exp(rng.uniform(-1, 1, 2) * [2 * strength, strength])
    cast = np.exp(rng.uniform(-strength / 5, strength / 5, 3))
    curves = 255 * (_LEVELS**gamma)[:, None] * (gain * cast)
    looked_up = _look_up(crop, np.clip(curves + 0.5, 0, 255).astype(np.uint8))
    return looked_up.astype(np.uint8, copy=False)


def low_light(crop: Crop, rng: np.random.Generator) -> Crop:
    """A dark scene whose camera turned its gain up: noise, a colour cast, some darkness left.

    The sensor's noise is Poisson-Gaussian (Foi et al., IEEE TIP 17(10), 2008): of a variance
    affine in the light, `light / well + (read / well)^2`. It is drawn as a normal variable in the
    encoded picture, with the standard deviation carried there by the encoding's slope.
    """
    exposure = float(np.exp(rng.uniform(np.log(0.02), np.log(0.2))))
    well, read = rng.uniform(400, 3000), rng.uniform(2, 8)
    gain = exposure ** -rng.uniform(0.4, 0.9)
    cast = np.exp(rng.uniform(-0.15, 0.15, 3))
    light = _LINEAR[:, None] * exposure
    seen = light * (gain * cast)
    deviation = gain * cast * np.sqrt(light / well + (read / well) ** 2)
    # The slope grows without bound at black; a camera's encoding has a straight piece there.
    slope = np.maximum(seen, 0.005) ** (1 / _ENCODING_GAMMA - 1) / _ENCODING_GAMMA
    mean = 255 * seen ** (1 / _ENCODING_GAMMA)
    noise = _correlated_noise(crop.shape, rng)
    noise *= _look_up(crop, (255 * deviation * slope).astype(np.float32)).astype(
        np.float32, copy=False
    )
    noise += _look_up(crop, mean.astype(np.float32)).astype(np.float32, copy=False)
    return np.clip(noise, 0, 255).astype(np.uint8)


def backlight(crop: Crop, rng: np.random.Generator) -> Crop:
    """A bright doorway behind a dark face: the surround blown out, the face dimmed and veiled.

    The light's weight rises from 0 inside an ellipse around the face to 1 at the crop's corners,
    stronger on one side; a flat veil stands for the lens's flare.
    """
    height, width = crop.shape[:2]
    centre_x, centre_y = width * rng.uniform(0.44, 0.56), height * rng.uniform(0.52, 0.66)
    radius_x, radius_y = width * rng.uniform(0.36, 0.5), height * rng.uniform(0.46, 0.62)
    side = rng.uniform(-0.5, 0.5)
    x = (np.arange(width, dtype=np.float32) - centre_x) / radius_x
    y = (np.arange(height, dtype=np.float32) - centre_y) / radius_y
    distance = (x * x + side * x)[None, :] + (y * y)[:, None]
    weight = np.clip((distance - 0.7) * rng.uniform(0.8, 2.0), 0, 1).astype(np.float32)
    dimmed = 255 * _LEVELS ** rng.uniform(1.0, 1.4) * rng.uniform(0.2, 0.55)
    veil = rng.uniform(0, 50)
    face = cv2.LUT(crop, np.minimum(dimmed + veil, 255).astype(np.uint8))
    behind = rng.uniform(200, 255)
    weight *= np.float32(rng.uniform(0.6, 1.0))
    weights = cv2.merge([weight, weight, weight])
    lit = np.asarray(face + weights * (np.float32(behind) - face))
    return lit.astype(np.uint8)


def _look_up(crop: Crop, curves: NDArray[np.uint8 | np.float32]) -> NDArray[np.uint8 | np.float32]:
    """(256, 3) `curves` applied to the three channels."""
    return np.asarray(cv2.LUT(crop, np.ascontiguousarray(curves)[None]))


def _correlated_noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit-variance noise, partly in grains of some pixels, as after demosaicing and denoising."""
    height, width = shape[:2]
    grain = rng.standard_normal((height // 2 + 1, width // 2 + 1, 3), np.float32)
    coarse = np.asarray(cv2.resize(grain, (width, height)), np.float32)
    fine = rng.standard_normal((height, width, 1), np.float32)
    share = np.float32(rng.uniform(0.2, 0.9))
    coarse *= 1.6 * share  # interpolation took some of its variance
    coarse += np.sqrt(1 - share * share) * fine
    return coarse
