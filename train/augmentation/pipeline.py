"""One crop through everything a door does to it, in the order in which it happens.

What the person wears, then the alignment, the light, the optics, the distance, the sensor and
last the codec. A pure function of a crop and a random generator, so that a step repeats exactly.
"""

from __future__ import annotations

import numpy as np

from limen.train.augmentation import camera, geometry, light, occlusion
from limen.train.augmentation.geometry import Crop
from limen.train.augmentation.settings import Augmentation


def augment(crop: Crop, settings: Augmentation, rng: np.random.Generator) -> Crop:
    """Return a changed copy of `crop`, (H, W, 3) uint8 RGB; the same for the same `rng` state."""

    def happens(probability: float) -> bool:
        return probability > 0 and rng.random() < probability

    crop = crop.copy()
    if happens(settings.sunglasses):
        crop = occlusion.sunglasses(crop, rng)
    if happens(settings.mask):
        crop = occlusion.face_mask(crop, rng)
    if settings.flip and rng.random() < 0.5:
        crop = geometry.mirror(crop)
    crop = geometry.misalign(crop, settings.shift_px, settings.scale, settings.rotate_deg, rng)
    if happens(settings.near_infrared):
        crop = camera.near_infrared(crop, rng)
    elif happens(settings.grey):
        crop = camera.grey(crop)
    if happens(settings.backlight):
        crop = light.backlight(crop, rng)
    crop = light.change_light(crop, settings.light, rng)
    if happens(settings.defocus):
        crop = camera.defocus(crop, rng)
    if happens(settings.motion_blur):
        crop = camera.motion_blur(crop, rng)
    if happens(settings.low_resolution):
        crop = camera.low_resolution(crop, rng)
    if happens(settings.blur):
        crop = camera.gaussian_blur(crop, rng)
    if happens(settings.low_light):
        crop = light.low_light(crop, rng)
    if happens(settings.noise):
        crop = camera.add_noise(crop, rng)
    if happens(settings.jpeg):
        crop = camera.jpeg(crop, rng)
    return crop
