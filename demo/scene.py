"""The place before the door, its light, and the camera that looks at it.

A corridor in one-point perspective, drawn with numpy and OpenCV. Nothing of it is a photograph.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH_PX, HEIGHT_PX = 640, 480

_FAR = (236, 112, 404, 330)  # the corridor's end, left, top, right, bottom, px


@dataclass(frozen=True, slots=True)
class Light:
    """How a moment is lit.

    visitor, room: gain of the person and of what is behind; warmth: -1 cold to 1 warm; side: share
    by which the left half of the visitor is darker; haze: stray light of a bright background, 0 to
    1; noise: standard deviation of the sensor's noise at mid grey, of 255.
    """

    name: str
    visitor: float = 1.0
    room: float = 1.0
    warmth: float = 0.0
    side: float = 0.0
    haze: float = 0.0
    noise: float = 2.5

    def towards(self, other: Light, share: float) -> Light:
        """The light on the way to `other`; it has the name of the nearer one."""

        def mix(a: float, b: float) -> float:
            return a + (b - a) * share

        return Light(
            other.name if share >= 0.5 else self.name,
            mix(self.visitor, other.visitor),
            mix(self.room, other.room),
            mix(self.warmth, other.warmth),
            mix(self.side, other.side),
            mix(self.haze, other.haze),
            mix(self.noise, other.noise),
        )


EVEN = Light("even light")
DIM = Light("dim", visitor=0.50, room=0.42, noise=5.0)
WARM = Light("warm lamp", visitor=0.92, room=0.85, warmth=0.9, side=0.18, noise=3.0)
BACKLIT = Light("backlit", visitor=0.62, room=1.22, haze=0.5, warmth=-0.25, noise=3.0)
NIGHT = Light("low light", visitor=0.46, room=0.32, warmth=0.35, side=0.15, noise=6.5)


def corridor() -> NDArray[np.float32]:
    """The empty corridor, (HEIGHT_PX, WIDTH_PX, 3) float32 RGB, 0 to 255."""
    left, top, right, bottom = _FAR
    w, h = WIDTH_PX, HEIGHT_PX
    image = np.zeros((h, w, 3), np.float32)
    surfaces = (
        ([(0, 0), (w, 0), (right, top), (left, top)], (205, 203, 198), (168, 168, 166)),  # ceiling
        ([(0, h), (w, h), (right, bottom), (left, bottom)], (98, 88, 78), (128, 118, 106)),  # floor
        ([(0, 0), (left, top), (left, bottom), (0, h)], (176, 174, 166), (146, 147, 144)),
        ([(w, 0), (right, top), (right, bottom), (w, h)], (164, 163, 157), (138, 139, 138)),
        ([(left, top), (right, top), (right, bottom), (left, bottom)], (158, 160, 160), (158,) * 3),
    )
    depth = _depth()[..., None]
    for corners, near, far in surfaces:
        mask = np.zeros((h, w), np.uint8)
        cv2.fillPoly(mask, [np.array(corners, np.int32)], (255,), cv2.LINE_AA)
        shade = np.array(near, np.float32) * (1 - depth) + np.array(far, np.float32) * depth
        image += (shade - image) * (mask[..., None].astype(np.float32) / 255)
    _furnish(image)
    return _plastered(cv2.GaussianBlur(image, (0, 0), 1.6).astype(np.float32))


def _depth() -> NDArray[np.float32]:
    """How far down the corridor each pixel is, (H, W), 0 at the camera and 1 at its end."""
    left, top, right, bottom = _FAR
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(np.float32)
    across = np.maximum((left - x) / left, (x - right) / (WIDTH_PX - right))
    along = np.maximum((top - y) / top, (y - bottom) / (HEIGHT_PX - bottom))
    return np.asarray(1 - np.clip(np.maximum(across, along), 0, 1), np.float32)


def _furnish(image: NDArray[np.float32]) -> None:
    """A door at the end, skirting boards, two lamps, and the near door frame."""
    left, top, right, bottom = _FAR
    cv2.rectangle(image, (286, 172), (354, bottom), (120, 104, 88), -1, cv2.LINE_AA)
    cv2.rectangle(image, (292, 178), (348, bottom), (142, 122, 102), -1, cv2.LINE_AA)
    cv2.circle(image, (342, 258), 2, (205, 200, 190), -1, cv2.LINE_AA)
    for near, far in (
        ((0, HEIGHT_PX - 26), (left, bottom - 5)),
        ((WIDTH_PX, HEIGHT_PX - 26), (right, bottom - 5)),
    ):
        cv2.line(image, near, far, (214, 211, 204), 5, cv2.LINE_AA)
    for share in (0.30, 0.72):  # lamps, as shares of the way down the ceiling
        y = int(top * share)
        half = 74 - 46 * share
        cv2.ellipse(
            image,
            (320, y),
            (int(half), max(3, int(half / 7))),
            0,
            0,
            360,
            (252, 250, 243),
            -1,
            cv2.LINE_AA,
        )
    for x in (0, WIDTH_PX - 16):
        cv2.rectangle(image, (x, 0), (x + 16, HEIGHT_PX), (70, 62, 56), -1)


def _plastered(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """A wall is never one colour: broad, faint stains and a vignette. The same on every run."""
    rng = np.random.default_rng(7)
    grain = rng.normal(0, 1, image.shape[:2]).astype(np.float32)
    broad = np.asarray(cv2.GaussianBlur(grain, (0, 0), 22), np.float32)
    stains = broad * (2.2 / float(broad.std()))
    y, x = np.mgrid[-1 : 1 : HEIGHT_PX * 1j, -1 : 1 : WIDTH_PX * 1j]
    vignette = 1 - 0.16 * np.clip(x**2 * 0.7 + y**2 * 0.6, 0, 1.3)
    return np.asarray((image + stains[..., None]) * vignette[..., None], np.float32)


def balance(warmth: float) -> NDArray[np.float32]:
    """Gains of red, green and blue, (3,) float32, for a warmth from -1 to 1."""
    return np.array([1 + 0.14 * warmth, 1 + 0.01 * warmth, 1 - 0.24 * warmth], np.float32)


def expose(
    scene: NDArray[np.float32], light: Light, blur_px: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """What the sensor makes of a lit scene, (H, W, 3) float32 RGB: haze, blur, noise, 8 bits."""
    image = scene * balance(light.warmth)
    if light.haze:
        glow = cv2.GaussianBlur(cv2.resize(image, None, fx=0.25, fy=0.25), (0, 0), 18)
        image = image + 0.30 * light.haze * cv2.resize(glow, (image.shape[1], image.shape[0]))
    if blur_px > 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur_px), np.float32)
    # Shot noise grows with the root of the light, and an amplifier's gain lifts it in the dark.
    spread = light.noise * (0.55 + 0.45 * np.sqrt(np.clip(image, 0, 255) / 128))
    noise = (
        rng.standard_normal((*image.shape[:2], 1), np.float32) * 0.8
        + rng.standard_normal(image.shape, np.float32) * 0.6
    )
    return np.asarray(np.clip(image + spread * noise + 0.5, 0, 255), np.uint8)
