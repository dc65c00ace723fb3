"""Camera buffers in their many orders of bytes, as RGB."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.errors import SourceError

# libcamera names a format by its bits from the highest down, so memory has the reverse order:
# "RGB888" lies as B, G, R. Where R, G and B are in memory, and bytes a pixel.
_PACKED = {
    "RGB888": (slice(2, None, -1), 3),
    "BGR888": (slice(0, 3), 3),
    "XRGB8888": (slice(2, None, -1), 4),
    "XBGR8888": (slice(0, 3), 4),
}
_PLANAR = {
    "YUV420": cv2.COLOR_YUV2RGB_I420,
    "YVU420": cv2.COLOR_YUV2RGB_YV12,
    "NV12": cv2.COLOR_YUV2RGB_NV12,
}
PIXEL_FORMATS = (*_PACKED, *_PLANAR)


def rgb_from_buffer(
    buffer: NDArray[np.uint8], pixel_format: str, width_px: int, height_px: int, stride_bytes: int
) -> NDArray[np.uint8]:
    """Return a camera's buffer, (n,) uint8, as (height_px, width_px, 3) uint8 RGB, a copy.

    pixel_format: as libcamera names it; stride_bytes: length of a row (of luma) with its padding.
    YUV is read as BT.601, limited range. SourceError for an unknown format, an odd size of a format
    with halved colour, or a buffer that is too short.
    """
    if pixel_format in _PACKED:
        order, pixel_bytes = _PACKED[pixel_format]
        rows = _rows(buffer, height_px, stride_bytes, width_px * pixel_bytes)
        pixels = rows.reshape(height_px, width_px, pixel_bytes)
        return pixels[..., order].copy(order="C")
    if pixel_format not in _PLANAR:
        raise SourceError(
            f"the camera gives {pixel_format}; expected one of {', '.join(PIXEL_FORMATS)}: "
            "configure it for RGB888"
        )
    if width_px % 2 or height_px % 2:
        raise SourceError(
            f"{width_px} x {height_px} px of {pixel_format}: expected an even width and height"
        )
    luma_bytes = height_px * stride_bytes
    luma = _rows(buffer, height_px, stride_bytes, width_px)
    if pixel_format == "NV12":
        colour = _rows(buffer[luma_bytes:], height_px // 2, stride_bytes, width_px)
    else:  # two planes of half the width, whose rows are padded to half the stride
        colour = _rows(buffer[luma_bytes:], height_px, stride_bytes // 2, width_px // 2)
    packed = np.concatenate([luma.ravel(), colour.ravel()]).reshape(height_px * 3 // 2, width_px)
    return np.asarray(cv2.cvtColor(packed, _PLANAR[pixel_format]), np.uint8)


def _rows(
    buffer: NDArray[np.uint8], rows: int, stride_bytes: int, used_bytes: int
) -> NDArray[np.uint8]:
    """The used part of each row: (rows, used_bytes)."""
    if stride_bytes < used_bytes or buffer.size < rows * stride_bytes:
        raise SourceError(
            f"the camera gave {buffer.size} bytes; expected {rows} rows of {stride_bytes}, "
            f"{used_bytes} of them used: restart the camera"
        )
    return buffer[: rows * stride_bytes].reshape(rows, stride_bytes)[:, :used_bytes]
