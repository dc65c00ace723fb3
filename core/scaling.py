"""How 8-bit pixels become a network's numbers: one place, for training, export and the door."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Scaling:
    """value = (pixel - mean) / divisor."""

    mean: float
    divisor: float

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(…,) uint8 -> (…,) float32."""
        return (pixels.astype(np.float32) - np.float32(self.mean)) / np.float32(self.divisor)


SCALING = Scaling(mean=127.5, divisor=128.0)
