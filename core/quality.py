"""Quality of a face sample: how far its size and sharpness let an embedding be trusted."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.detection import DetectedFace

GOOD_WIDTH_PX = 112.0
GOOD_SHARPNESS = 60.0
GOOD_CONTRAST = 40.0


def quality(face: DetectedFace, crop: NDArray[np.uint8]) -> float:
    """A score from 0 (unusable) to 1 (good): the product of size, sharpness and contrast.

    face: as detected; crop: its aligned (H, W, 3) uint8 RGB. Size saturates at the crop's own
    width, sharpness is the variance of the Laplacian, contrast the spread of grey levels. A
    heuristic; it orders samples, and is no calibrated measure in the sense of ISO/IEC 29794-5.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    size = min(1.0, face.width_px / GOOD_WIDTH_PX)
    sharpness = min(1.0, float(cv2.Laplacian(grey, cv2.CV_64F).var()) / GOOD_SHARPNESS)
    contrast = min(1.0, float(grey.std()) / GOOD_CONTRAST)
    return float(size * np.sqrt(sharpness) * np.sqrt(contrast))
