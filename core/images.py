"""Pictures from bytes and files: bounded, upright, 8-bit RGB, or a clear refusal.

Files are hostile until checked: the header is read first and the size bounded before a pixel is
decoded. Pillow reads, because it states a file's real format, honours EXIF orientation, and
converts CMYK, 16-bit, palette and animated pictures by documented rules.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from limen.errors import PictureError

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm"}
)
MAX_FILE_BYTES = 64 * 2**20
MAX_SIDE_PX = 12_000
MAX_PIXELS = 50_000_000
MIN_SIDE_PX = 16

# What a door may be shown: no format whose decoder is rarely exercised.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return the picture in `path` as (H, W, 3) uint8 RGB, upright.

    PictureError where the file is missing, too large, truncated, or no picture.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if path.is_dir():
        raise PictureError(f"{path}: expected a picture, found a folder")
    if size > MAX_FILE_BYTES:
        raise PictureError(
            f"{path}: {size / 2**20:.0f} MiB is more than the {MAX_FILE_BYTES // 2**20} MiB "
            "that are read; make it smaller"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return decode_picture(content)
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from error


def decode_picture(content: bytes) -> NDArray[np.uint8]:
    """Return an encoded picture as (H, W, 3) uint8 RGB, upright; the first frame of several.

    EXIF orientation is honoured; transparency is laid over white; 16-bit is scaled to 8-bit.
    PictureError where the bytes are no picture, cut short, or outside the size limits.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                check_size(*image.size)
                image.draft("RGB", None)
                image.load()
                return _upright_rgb(image)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(
            f"not a picture that can be read; expected one of {', '.join(_FORMATS)}"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise PictureError(
            f"the picture is cut short or damaged ({type(error).__name__}); copy it again"
        ) from error


def check_size(width_px: int, height_px: int) -> None:
    """PictureError unless a picture of this size can hold a face and fits in memory."""
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise PictureError(
            f"{width_px} x {height_px} px is too small; each side needs {MIN_SIDE_PX} px or more"
        )
    if max(width_px, height_px) > MAX_SIDE_PX or width_px * height_px > MAX_PIXELS:
        raise PictureError(
            f"{width_px} x {height_px} px is too large; at most {MAX_SIDE_PX} px a side and "
            f"{MAX_PIXELS // 1_000_000} million pixels are read: scale it down"
        )


def _upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in {"I;16", "I;16B", "I;16L", "I;16N", "I"}:
        grey = np.asarray(upright).astype(np.float32) / 257.0
        return np.repeat(np.clip(grey + 0.5, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if upright.mode == "F":
        raise PictureError("floating-point pixels have no agreed range; save it as 8 or 16 bit")
    if upright.mode in {"RGBA", "LA", "PA"} or "transparency" in upright.info:
        over_white = Image.new("RGBA", upright.size, "white")
        over_white.alpha_composite(upright.convert("RGBA"))
        upright = over_white
    return np.asarray(upright.convert("RGB"), np.uint8).copy()


def letterbox(image: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Return `image` scaled into a (side_px, side_px, 3) square, centred, borders black."""
    height, width = image.shape[:2]
    if (height, width) == (side_px, side_px):
        return image
    scale = side_px / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.zeros((side_px, side_px, 3), np.uint8)
    left, top = (side_px - inner[0]) // 2, (side_px - inner[1]) // 2
    square[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        image, inner, interpolation=method
    )
    return square


def encode_jpeg(image: NDArray[np.uint8], quality: int = 85) -> bytes:
    """Return (H, W, 3) uint8 RGB as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
