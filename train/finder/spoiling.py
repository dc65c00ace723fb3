"""What light, lens and compression do to a scene."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def spoil(image: Image, rng: np.random.Generator) -> Image:
    """Light, blur, noise, compression, loss of colour."""
    gamma = float(np.exp(rng.uniform(-0.5, 0.5)))
    gain = float(np.exp(rng.uniform(-0.35, 0.25)))
    if rng.random() < 0.1:  # a dark doorway
        gain *= rng.uniform(0.12, 0.5)
    levels = (np.arange(256, dtype=np.float32) / 255) ** gamma
    tint = np.exp(rng.uniform(-0.06, 0.06, 3))
    curve = np.clip(255 * levels[:, None] * gain * tint + 0.5, 0, 255).astype(np.uint8)
    image = np.asarray(cv2.LUT(image, curve[None]), np.uint8)
    if rng.random() < 0.12:
        image = _lit_from_a_side(image, rng)
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


def _lit_from_a_side(image: Image, rng: np.random.Generator) -> Image:
    """Bright on one side, down to a fifth of the light on the other."""
    height, width = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    across = np.cos(angle) * np.linspace(-1, 1, width, dtype=np.float32)
    down = np.sin(angle) * np.linspace(-1, 1, height, dtype=np.float32)
    place = across[None, :] + down[:, None] - np.float32(rng.uniform(-0.4, 0.4))
    darkest, hardness = rng.uniform(0.2, 0.8), rng.uniform(1.5, 8)
    light = darkest + (1.2 - darkest) / (1 + np.exp(-hardness * place))
    return np.asarray(np.clip(image * light[..., None], 0, 255), np.uint8)
