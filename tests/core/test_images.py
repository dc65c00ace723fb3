"""Pictures: what is read, how, and what is refused with a sentence."""

import io

import numpy as np
import pytest
from PIL import Image

from limen.errors import PictureError
from limen.images import MAX_SIDE_PX, decode_picture, letterbox, read_picture


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * 3, y * 3, x + y], -1).astype(np.uint8))


def test_a_png_comes_back_pixel_for_pixel() -> None:
    image = gradient()
    assert np.array_equal(decode_picture(encoded(image)), np.asarray(image))


def test_exif_orientation_is_honoured() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright = decode_picture(encoded(gradient(64, 48), "JPEG", exif=exif, quality=95))
    assert upright.shape == (64, 48, 3)
    expected = np.asarray(gradient(64, 48).rotate(-90, expand=True)).astype(int)
    assert np.abs(upright.astype(int) - expected).mean() < 6


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "1", "YCbCr"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    kind = "JPEG" if mode in {"CMYK", "YCbCr"} else "PNG"
    image = decode_picture(encoded(gradient().convert(mode), kind))
    assert image.shape == (48, 64, 3)
    assert image.dtype == np.uint8


def test_sixteen_bit_grey_keeps_its_range() -> None:
    levels = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    image = decode_picture(encoded(Image.fromarray(levels)))
    assert np.abs(image[..., 0].astype(float) - levels / 257).max() <= 1
    assert image.min() == 0
    assert image.max() == 255


def test_the_first_frame_of_an_animation_counts() -> None:
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    content = encoded(first, "GIF", save_all=True, append_images=[second])
    assert tuple(decode_picture(content)[0, 0]) == (255, 0, 0)


def test_transparency_lies_over_white() -> None:
    assert tuple(decode_picture(encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 0))))[5, 5]) == (
        255,
        255,
        255,
    )


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(PictureError, match="picture"):
        decode_picture(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    with pytest.raises(PictureError, match=r"cut short or damaged|not a picture"):
        decode_picture(content[: len(content) // 2])


def test_a_tiny_picture_is_refused_with_its_size() -> None:
    with pytest.raises(PictureError, match="1 x 1 px is too small"):
        decode_picture(encoded(Image.new("RGB", (1, 1))))


def test_a_very_wide_picture_is_refused_before_it_is_decoded() -> None:
    content = encoded(Image.new("1", (30_000, 20)))
    with pytest.raises(PictureError, match=f"at most {MAX_SIDE_PX} px a side"):
        decode_picture(content)


def test_a_decompression_bomb_is_refused() -> None:
    with pytest.raises(PictureError, match="million pixels"):
        decode_picture(encoded(Image.new("1", (11_000, 11_000))))


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path) -> None:
    with pytest.raises(PictureError, match="check the path"):
        read_picture(tmp_path / "none.jpg")
    with pytest.raises(PictureError, match="found a folder"):
        read_picture(tmp_path)


def test_letterbox_keeps_proportions() -> None:
    square = letterbox(np.full((20, 40, 3), 255, np.uint8), 112)
    assert square.shape == (112, 112, 3)
    assert square[:20].max() == 0
    assert square[56].min() == 255
