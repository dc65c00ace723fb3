"""Alignment: a similarity transform that puts a face's landmarks onto the embedder's template.

The template is the 112 x 112 one of ArcFace (Deng et al., arXiv:1801.07698), which SFace, the
InsightFace models and our training crops share.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.errors import PictureError

CROP_PX = 112

# (5, 2) px: the eye on the picture's left, the other eye, nose tip, mouth corners left and right.
TEMPLATE_XY: NDArray[np.float32] = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    np.float32,
)
TEMPLATE_XY.setflags(write=False)


def similarity_transform(
    from_xy: NDArray[np.float32], to_xy: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The rotation, scale and shift that bring `from_xy` closest to `to_xy`, as a (2, 3) matrix.

    Both (n, 2), n >= 2. Least squares without reflection: Umeyama, PAMI 13(4), 1991, in the plane,
    where it has a closed form. PictureError where all points of `from_xy` coincide.
    """
    source, target = from_xy.astype(np.float64), to_xy.astype(np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    s, t = source - source_mean, target - target_mean
    spread = float((s**2).sum())
    if not np.isfinite(spread) or spread < 1e-6:
        raise PictureError("the landmarks coincide; expected five points of a face")
    a = float((s * t).sum()) / spread
    b = float((s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum()) / spread
    linear = np.array([[a, -b], [b, a]])
    shift = target_mean - linear @ source_mean
    return np.hstack([linear, shift[:, None]]).astype(np.float32)


def align(
    image: NDArray[np.uint8], landmarks_xy: NDArray[np.float32], crop_px: int = CROP_PX
) -> NDArray[np.uint8]:
    """Return the (crop_px, crop_px, 3) uint8 crop whose landmarks lie on the template.

    image: (H, W, 3) uint8 RGB; landmarks_xy: (5, 2) px. Beyond the picture's edge it is black.
    """
    matrix = similarity_transform(landmarks_xy, TEMPLATE_XY * (crop_px / CROP_PX))
    return cv2.warpAffine(image, matrix, (crop_px, crop_px), flags=cv2.INTER_LINEAR).astype(
        np.uint8, copy=False
    )
