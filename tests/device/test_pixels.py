from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from limen.device.pixels import rgb_from_buffer
from limen.errors import SourceError

WIDTH, HEIGHT = 8, 6
# Blocks of 2 x 2 keep halved colour exact.
SMALL = np.random.default_rng(3).integers(40, 216, (HEIGHT // 2, WIDTH // 2, 3)).astype(np.uint8)
RGB = SMALL.repeat(2, 0).repeat(2, 1)


def padded(rows: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    wide = np.full((rows.shape[0], stride), 77, np.uint8)
    wide[:, : rows.shape[1]] = rows
    return wide.ravel()


@pytest.mark.parametrize("padding", [0, 16])
@pytest.mark.parametrize(
    ("pixel_format", "order"),
    [("RGB888", "BGR"), ("BGR888", "RGB"), ("XRGB8888", "BGRX"), ("XBGR8888", "RGBX")],
)
def test_packed_formats(pixel_format: str, order: str, padding: int) -> None:
    planes = {
        "R": RGB[..., 0],
        "G": RGB[..., 1],
        "B": RGB[..., 2],
        "X": np.full_like(RGB[..., 0], 9),
    }
    rows = np.stack([planes[letter] for letter in order], axis=-1).reshape(HEIGHT, -1)
    stride = rows.shape[1] + padding
    buffer = padded(rows, stride)
    image = rgb_from_buffer(buffer, pixel_format, WIDTH, HEIGHT, stride)
    np.testing.assert_array_equal(image, RGB)
    assert image.flags["C_CONTIGUOUS"]
    assert not np.shares_memory(image, buffer)


@pytest.mark.parametrize("padding", [0, 16])
@pytest.mark.parametrize("pixel_format", ["YUV420", "YVU420", "NV12"])
def test_planar_formats(pixel_format: str, padding: int) -> None:
    i420 = np.asarray(cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_I420), np.uint8).ravel()
    quarter = WIDTH * HEIGHT // 4
    luma, u, v = np.split(i420, [WIDTH * HEIGHT, WIDTH * HEIGHT + quarter])
    u, v = u.reshape(HEIGHT // 2, -1), v.reshape(HEIGHT // 2, -1)
    stride = WIDTH + padding
    if pixel_format == "NV12":
        colour = padded(np.stack([u, v], -1).reshape(HEIGHT // 2, -1), stride)
    else:
        first, second = (u, v) if pixel_format == "YUV420" else (v, u)
        colour = np.concatenate([padded(first, stride // 2), padded(second, stride // 2)])
    buffer = np.concatenate([padded(luma.reshape(HEIGHT, WIDTH), stride), colour])
    image = rgb_from_buffer(buffer, pixel_format, WIDTH, HEIGHT, stride)
    assert np.abs(image.astype(int) - RGB).max() <= 6  # 8-bit YUV rounds


@pytest.mark.parametrize(
    ("pixel_format", "width", "size"),
    [("SRGGB10", 8, 1000), ("RGB888", 8, 100), ("YUV420", 7, 1000), ("NV12", 8, 60)],
)
def test_buffer_that_does_not_fit_is_refused(pixel_format: str, width: int, size: int) -> None:
    with pytest.raises(SourceError):
        rgb_from_buffer(np.zeros(size, np.uint8), pixel_format, width, HEIGHT, width * 3)
