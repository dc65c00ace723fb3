"""How far a shot can be trusted: size, sharpness, contrast, pose, light and occlusion, 0 to 1 each.

Heuristics that order the shots of one track. They are no calibrated measures in the sense of
ISO/IEC 29794-5; the names of the components follow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.alignment import CROP_PX, TEMPLATE_XY
from limen.detection import DetectedFace
from limen.quality import quality

# The nose tip's offset from the middle of the eyes, in distances between the eyes; .5 is a profile.
MAX_YAW_OFFSET = 0.5
MAX_ROLL_DEG = 45.0
DARK, BRIGHT = 40.0, 215.0
MAX_CLIPPED = 0.25
# A landmark with so little of the face's usual texture around it is covered, or off the picture.
BARE = 0.12
_PATCH_PX = 9


@dataclass(frozen=True, slots=True)
class ShotQuality:
    """The components, 0 (unusable) to 1 (good).

    base: size, sharpness and contrast as at enrolment (`limen.quality`).
    """

    base: float
    pose: float
    light: float
    occlusion: float

    @property
    def total(self) -> float:
        """The product: one bad component spoils a shot."""
        return self.base * self.pose * self.light * self.occlusion


def shot_quality(face: DetectedFace, crop: NDArray[np.uint8]) -> ShotQuality:
    """Judge a face by its landmarks and its aligned crop, (112, 112, 3) uint8 RGB."""
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return ShotQuality(
        base=quality(face, crop),
        pose=pose_quality(face.landmarks_xy),
        light=light_quality(np.asarray(grey, np.uint8)),
        occlusion=occlusion_quality(np.asarray(grey, np.uint8)),
    )


def pose_quality(landmarks_xy: NDArray[np.float32]) -> float:
    """1 for a face that looks at the camera upright, 0 for a profile or one that lies on its side.

    landmarks_xy: (5, 2) px. Yaw from the nose's place between the eyes, roll from the eyes' line.
    """
    left, right, nose = (landmarks_xy[i].astype(np.float64) for i in range(3))
    between = right - left
    apart = float(np.linalg.norm(between))
    if apart < 1e-6:
        return 0.0
    along = float((nose - (left + right) / 2) @ between) / apart**2
    yaw = max(0.0, 1.0 - (along / MAX_YAW_OFFSET) ** 2)
    roll_deg = abs(float(np.degrees(np.arctan2(between[1], between[0]))))
    roll = max(0.0, 1.0 - (roll_deg / MAX_ROLL_DEG) ** 2)
    return yaw * roll


def light_quality(grey: NDArray[np.uint8]) -> float:
    """1 for an evenly lit face, less for a dark, glaring, clipped or half-lit one. (H, W) uint8."""
    mean = float(grey.mean())
    level = min(1.0, mean / DARK, max(0.0, (255.0 - mean) / (255.0 - BRIGHT)))
    clipped = float(((grey <= 2) | (grey >= 253)).mean())
    whole = max(0.0, 1.0 - clipped / MAX_CLIPPED / 2)
    middle = grey.shape[1] // 2
    halves = sorted((float(grey[:, :middle].mean()) + 1, float(grey[:, middle:].mean()) + 1))
    even = min(1.0, 2.0 * halves[0] / halves[1])  # twice as bright on one side still is even
    return level * whole * even


def occlusion_quality(grey: NDArray[np.uint8]) -> float:
    """1 where every landmark has texture around it, less where one is covered. (112, 112) uint8.

    The least textured landmark against the median one; a plain heuristic that sees a hand, a mask
    or the picture's edge, and no transparent thing.
    """
    scale = grey.shape[0] / CROP_PX
    spreads = []
    for x, y in TEMPLATE_XY * scale:
        half = max(2, round(_PATCH_PX * scale))
        top, left = max(0, int(y) - half), max(0, int(x) - half)
        spreads.append(float(grey[top : int(y) + half + 1, left : int(x) + half + 1].std()))
    usual = float(np.median(spreads))
    if usual < 1e-6:
        return 0.0
    return min(1.0, min(spreads) / usual / BARE)
