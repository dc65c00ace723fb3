"""Drawing on a frame what the door saw in it: the face, its landmarks, the score, the verdict."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from limen.demo.story import Moment
from limen.device.values import Outcome, Verdict

Colour = tuple[int, int, int]

OPEN: Colour = (92, 190, 145)
MATCH: Colour = (150, 205, 178)
REFUSED: Colour = (226, 128, 100)
QUIET: Colour = (165, 172, 176)
_INK: Colour = (24, 29, 33)
_PAPER: Colour = (240, 239, 234)
_BAR_PX = 46
_GAUGE_PX = 150


def annotate(image: NDArray[np.uint8], moment: Moment) -> NDArray[np.uint8]:
    """Return a copy of an (H, W, 3) uint8 RGB frame with box, landmarks and a bar of words."""
    drawn = image.copy()
    colour, words = verdict_words(moment)
    if moment.box_xyxy is not None and moment.acquired:
        _brackets(drawn, moment.box_xyxy, colour)
    if moment.landmarks_xy is not None:
        for x, y in moment.landmarks_xy:
            _dot(drawn, float(x), float(y), colour)
    _bar(drawn, moment, colour, words)
    return drawn


def verdict_words(moment: Moment) -> tuple[Colour, str]:
    """A colour and a few words for what the door does at this moment."""
    if moment.verdict is Verdict.OPEN:
        return OPEN, "Opens"
    if not moment.locked:
        return OPEN, "Unlocked"
    if moment.verdict is Verdict.REFUSE:
        return REFUSED, "Stays shut"
    if moment.outcome is Outcome.MATCH:
        return MATCH, "Match, counting votes"
    if moment.outcome is Outcome.NO_MATCH:
        return REFUSED, "No match"
    return QUIET, "Nobody to compare"


def _brackets(image: NDArray[np.uint8], box_xyxy: NDArray[np.float32], colour: Colour) -> None:
    """Four corners say where the face is and leave the face to be seen."""
    left, top, right, bottom = (round(float(value)) for value in box_xyxy)
    arm = max(8, (right - left) // 6)
    for x, inward_x in ((left, 1), (right, -1)):
        for y, inward_y in ((top, 1), (bottom, -1)):
            corner = np.array([[x + inward_x * arm, y], [x, y], [x, y + inward_y * arm]], np.int32)
            cv2.polylines(image, [corner], False, _INK, 5, cv2.LINE_AA)
            cv2.polylines(image, [corner], False, colour, 2, cv2.LINE_AA)


def _dot(image: NDArray[np.uint8], x: float, y: float, colour: Colour) -> None:
    centre = (round(x * 8), round(y * 8))  # in eighths of a px, as `shift` says
    cv2.circle(image, centre, 4 * 8, _INK, -1, cv2.LINE_AA, shift=3)
    cv2.circle(image, centre, int(2.6 * 8), colour, -1, cv2.LINE_AA, shift=3)


def _bar(image: NDArray[np.uint8], moment: Moment, colour: Colour, words: str) -> None:
    height, width = image.shape[:2]
    top = height - _BAR_PX
    below = image[top:].astype(np.float32)
    image[top:] = (below * 0.16 + np.array(_INK, np.float32) * 0.84).astype(np.uint8)
    image[top:, :6] = colour
    _text(image, 20, top + 11, words, 19, colour)
    _text(image, 20 + _text_width(words, 19) + 14, top + 14, f"{moment.at_s:.1f} s", 15, QUIET)
    if moment.score is None:
        return
    sign = ">=" if moment.score >= moment.threshold else "<"
    text = f"{moment.score:.2f} {sign} {moment.threshold:.2f}"
    right = width - 20 - _GAUGE_PX - 16
    _text(image, right - _text_width(text, 17), top + 12, text, 17, _PAPER)
    _gauge(image, width - 20 - _GAUGE_PX, top + _BAR_PX // 2, moment, colour)


def _gauge(image: NDArray[np.uint8], x: int, y: int, moment: Moment, colour: Colour) -> None:
    """A score on a track from 0 to 1, with a tick at the threshold."""

    def place(value: float) -> int:
        return x + round(_GAUGE_PX * float(np.clip(value, 0, 1)))

    cv2.line(image, (x, y), (x + _GAUGE_PX, y), (84, 91, 96), 6, cv2.LINE_AA)
    cv2.line(image, (x, y), (place(moment.score or 0.0), y), colour, 6, cv2.LINE_AA)
    tick = place(moment.threshold)
    cv2.line(image, (tick, y - 10), (tick, y + 10), _PAPER, 2, cv2.LINE_AA)


def _text(image: NDArray[np.uint8], x: int, y: int, text: str, px: int, colour: Colour) -> None:
    """OpenCV's own letters are plotter strokes; Pillow carries a typeface."""
    strip = Image.fromarray(image[y : y + px + 10])
    ImageDraw.Draw(strip).text((x, 0), text, font=_font(px), fill=colour)
    image[y : y + px + 10] = np.asarray(strip)


def _text_width(text: str, px: int) -> int:
    return int(_font(px).getlength(text))


@lru_cache(maxsize=8)
def _font(px: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(px)
