"""What lens, sensor, distance and codec do to a picture.

Pure functions of a crop, (H, W, 3) uint8 RGB, and a random generator.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.errors import PictureError
from limen.train.augmentation.geometry import Crop


def gaussian_blur(crop: Crop, rng: np.random.Generator) -> Crop:
    """Softness of 0.4 to 1.6 px standard deviation."""
    return cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.6)).astype(np.uint8, copy=False)


def motion_blur(crop: Crop, rng: np.random.Generator) -> Crop:
    """The face moves 3 to 11 px along a straight line while the shutter is open."""
    length_px = rng.uniform(3, 11)
    angle = rng.uniform(0, np.pi)
    half = np.array([np.cos(angle), np.sin(angle)]) * length_px / 2
    reach = int(np.ceil(length_px / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    # Fixed point with four bits of fraction, so that the line is as long as was drawn.
    ends = np.round((np.array([reach, reach]) + np.stack([-half, half])) * 16).astype(int)
    start, stop = ((int(x), int(y)) for x, y in ends)
    cv2.line(kernel, start, stop, (255,), 1, cv2.LINE_AA, 4)
    return _filter(crop, kernel.astype(np.float32))


def defocus(crop: Crop, rng: np.random.Generator) -> Crop:
    """A lens out of focus: every point becomes a disc of 1.2 to 3.2 px radius."""
    radius_px = rng.uniform(1.2, 3.2)
    reach = int(np.ceil(radius_px))
    axis = np.arange(-reach, reach + 1, dtype=np.float32)
    distance = np.hypot(axis[None], axis[:, None])
    return _filter(crop, np.clip(radius_px + 0.5 - distance, 0, 1).astype(np.float32))


def low_resolution(crop: Crop, rng: np.random.Generator) -> Crop:
    """A face far away: reduced to 20 to 70 % of its size, and enlarged again as an aligner would."""
    height, width = crop.shape[:2]
    share = rng.uniform(0.2, 0.7)
    small = (max(2, int(width * share)), max(2, int(height * share)))
    kind = cv2.INTER_AREA if rng.random() < 0.7 else cv2.INTER_LINEAR
    reduced = cv2.resize(crop, small, interpolation=kind)
    return cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR).astype(
        np.uint8, copy=False
    )


def add_noise(crop: Crop, rng: np.random.Generator) -> Crop:
    """Independent normal noise of 2 to 14 levels."""
    noise = rng.standard_normal(crop.shape, np.float32)
    noise *= np.float32(rng.uniform(2, 14))
    noise += crop
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8)


def jpeg(crop: Crop, rng: np.random.Generator) -> Crop:
    """Through JPEG and back at quality 12 to 70, its colours at half resolution."""
    quality = int(rng.integers(12, 71))
    # OpenCV takes BGR for its colour transform; the channels are turned round and back for it.
    done, content = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise PictureError("the crop cannot be written as JPEG; expected (H, W, 3) uint8")
    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def grey(crop: Crop) -> Crop:
    """Luma alone, in three equal channels."""
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)


def near_infrared(crop: Crop, rng: np.random.Generator) -> Crop:
    """The look of a night camera with infrared lamps: grey, skin and lips pale, edges falling off.

    Skin reflects most of the near infrared, whatever its tone, and red is the nearest that an RGB
    picture has; the lamp beside the lens lights the middle and leaves the surround dark.
    """
    red, blue = rng.uniform(0.75, 1.1), rng.uniform(-0.15, 0.1)
    weights = np.array([[red, 1 - red - blue, blue]], np.float32)
    grey_crop = np.asarray(cv2.transform(crop, weights), np.uint8)
    height, width = grey_crop.shape[:2]
    curve = 255 * (np.arange(256, dtype=np.float32) / 255) ** rng.uniform(0.55, 1.0)
    lit = np.asarray(cv2.LUT(grey_crop, curve.astype(np.float32)), np.float32)
    x = np.linspace(-1, 1, width, dtype=np.float32) - np.float32(rng.uniform(-0.3, 0.3))
    y = np.linspace(-1, 1, height, dtype=np.float32) - np.float32(rng.uniform(-0.3, 0.3))
    fall = np.float32(rng.uniform(0.1, 0.6))
    lit /= 1 + fall * ((x * x)[None, :] + (y * y)[:, None])
    lit *= np.float32(rng.uniform(0.8, 1.25))
    return cv2.cvtColor(np.clip(lit, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB).astype(
        np.uint8, copy=False
    )


def _filter(crop: Crop, kernel: NDArray[np.float32]) -> Crop:
    return cv2.filter2D(crop, -1, kernel / kernel.sum()).astype(np.uint8, copy=False)
