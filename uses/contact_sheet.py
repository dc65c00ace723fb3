"""A contact sheet: pictures in rows, each with a line or two below it, as one picture to look at."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from limen.errors import ConfigError, PictureError
from limen.files import write_atomically
from limen.images import letterbox, read_picture

THUMBNAIL_PX = 144
_GAP_PX = 14
_LINE_PX = 17
_PAPER, _INK, _SOFT, _GOOD, _MISSING = "#faf8f4", "#20272b", "#5b656b", "#2b7057", "#dddad2"
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture of a sheet.

    picture: None where there is none to show; box_xyxy: (4,) px, the part that is meant, shown
    with some of what is around it; marked: whether a green frame says that it belongs.
    """

    picture: Path | None
    lines: tuple[str, ...]
    box_xyxy: NDArray[np.float32] | None = None
    marked: bool = False


def write_contact_sheet(path: Path, title: str, cells: Sequence[Cell], columns: int = 6) -> None:
    """Write the sheet as the format that the name's ending says, whole or not at all.

    Its pictures may show people: only its user may read it. ConfigError for another ending.
    """
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path}: a sheet's name ends in {', '.join(sorted(_FORMATS))}")
    content = io.BytesIO()
    contact_sheet(title, cells, columns).save(content, kind, quality=88)
    with write_atomically(path, 0o600) as file:
        file.write(content.getvalue())


def contact_sheet(title: str, cells: Sequence[Cell], columns: int = 6) -> Image.Image:
    """The sheet, as wide as its columns. A picture that cannot be read is an empty frame."""
    columns = max(1, min(columns, len(cells)))
    lines = max((len(cell.lines) for cell in cells), default=0)
    step_x, step_y = THUMBNAIL_PX + _GAP_PX, THUMBNAIL_PX + lines * _LINE_PX + _GAP_PX
    rows = -(-len(cells) // columns)
    head = 44
    width = max(columns * step_x + _GAP_PX, 420)
    sheet = Image.new("RGB", (width, head + rows * step_y + _GAP_PX), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font, bold = ImageFont.load_default(12), ImageFont.load_default(16)
    draw.text((_GAP_PX, 14), _fitting(title, draw, bold, width - 2 * _GAP_PX), _INK, bold)
    for number, cell in enumerate(cells):
        left = _GAP_PX + number % columns * step_x
        top = head + number // columns * step_y
        sheet.paste(Image.fromarray(thumbnail(cell.picture, cell.box_xyxy)), (left, top))
        if cell.marked:
            frame = (left - 3, top - 3, left + THUMBNAIL_PX + 2, top + THUMBNAIL_PX + 2)
            draw.rectangle(frame, outline=_GOOD, width=3)
        for row, text in enumerate(cell.lines):
            place = (left, top + THUMBNAIL_PX + 4 + row * _LINE_PX)
            colour = (_GOOD if cell.marked else _INK) if row == 0 else _SOFT
            draw.text(place, _fitting(text, draw, font, THUMBNAIL_PX), colour, font)
    return sheet


def thumbnail(picture: Path | None, box_xyxy: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """(144, 144, 3) uint8 RGB: the part that is meant with a margin, or grey where there is none."""
    empty = np.full((THUMBNAIL_PX, THUMBNAIL_PX, 3), tuple(bytes.fromhex(_MISSING[1:])), np.uint8)
    if picture is None:
        return empty
    try:
        image = read_picture(picture)
    except PictureError:
        return empty
    if box_xyxy is not None:
        image = _around(image, box_xyxy)
    return letterbox(image, THUMBNAIL_PX)


def _around(image: NDArray[np.uint8], box_xyxy: NDArray[np.float32]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    left, top, right, bottom = (float(side) for side in box_xyxy)
    if right - left >= width - 1 and bottom - top >= height - 1:
        return image
    half = 0.7 * max(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2
    x0, x1 = int(np.clip(x - half, 0, width)), int(np.clip(x + half, 0, width))
    y0, y1 = int(np.clip(y - half, 0, height)), int(np.clip(y + half, 0, height))
    part = image[y0:y1, x0:x1]
    return np.ascontiguousarray(part) if part.size else image


def _fitting(text: str, draw: ImageDraw.ImageDraw, font: _Font, px: int) -> str:
    """The text, its front left out where it is too long: the end of a path tells more."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    if draw.textlength(text, font) <= px:
        return text
    while text and draw.textlength("…" + text, font) > px:
        text = text[1:]
    return "…" + text
