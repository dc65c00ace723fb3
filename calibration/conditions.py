"""Day and night: the conditions under which a comparison is made, since scores differ between them."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

# Mean grey level of 255 below which a picture is of the night, whatever lit it: about where a
# camera has opened its shutter as far as it goes and noise begins to cost detail.
NIGHT_GREY = 50.0
# Mean distance between a pixel's highest and lowest channel, of 255. A camera in infrared mode gives
# three equal channels; JPEG and sensor noise leave one or two levels.
INFRARED_COLOUR = 3.0
_STEP_PX = 8


class Condition(StrEnum):
    """DAY: light and colour; NIGHT: little light, or a camera in infrared mode."""

    DAY = "day"
    NIGHT = "night"


def light_level(image: NDArray[np.uint8]) -> float:
    """Mean grey level, 0 to 255, of every eighth pixel of an (H, W, 3) uint8 RGB picture."""
    return float(image[::_STEP_PX, ::_STEP_PX].mean(dtype=np.float64))


def condition_of(image: NDArray[np.uint8]) -> Condition:
    """The condition of a whole picture, (H, W, 3) uint8 RGB; cheap enough for every frame."""
    grid = image[::_STEP_PX, ::_STEP_PX]
    colour = float((grid.max(axis=2) - grid.min(axis=2)).mean(dtype=np.float64))
    dark = light_level(image) < NIGHT_GREY
    return Condition.NIGHT if dark or colour < INFRARED_COLOUR else Condition.DAY
