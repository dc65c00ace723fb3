"""Whether a camera sees: frames that stop, freeze, go black or go blind. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from limen.device.values import Frame

FROZEN_S = 5.0
FROZEN_FRAMES = 10
DARK_S = 3.0
BLACK_MEAN, BLACK_SPREAD = 12.0, 5.0
# Grey levels between neighbouring blocks, across and down; a covered or fogged lens leaves less.
BLIND_DETAIL = 0.5
GLARE_MEAN = 245.0
_STEP_PX = 8
_BLOCK_PX = 8


class Health(StrEnum):
    """What a camera is like.

    WAITING: no frame yet; STOPPED: none any more; FROZEN: the same frame again and again;
    BLACK: no light; BLIND: light, but no detail: covered, fogged or dazzled.
    """

    WAITING = "waiting"
    OK = "ok"
    STOPPED = "stopped"
    FROZEN = "frozen"
    BLACK = "black"
    BLIND = "blind"


@dataclass(slots=True)
class _Since:
    what: Health
    at_s: float


class HealthMonitor:
    """Judges frames as they come. A state counts once it has lasted."""

    def __init__(self) -> None:
        self._health = Health.WAITING
        self._mark: int | None = None
        self._same_since_s = 0.0
        self._same_frames = 0
        self._frozen = False
        self._poor: _Since | None = None

    @property
    def health(self) -> Health:
        """The state in force."""
        return self._health

    @property
    def is_frozen(self) -> bool:
        """Whether the frames must not be believed: a face in them may have left long ago."""
        return self._frozen

    def stopped(self) -> bool:
        """The source gave up. Whether that is news."""
        self._mark, self._poor, self._frozen = None, None, False
        return self._become(Health.STOPPED)

    def see(self, frame: Frame) -> bool:
        """Judge a frame; whether the health changed."""
        now_s = frame.captured_at_s
        # Every eighth pixel of every eighth row: a sensor's noise changes some of them each time.
        grid = np.ascontiguousarray(frame.image[::_STEP_PX, ::_STEP_PX])
        mark = zlib.crc32(grid.tobytes())
        if mark != self._mark:
            self._mark, self._same_since_s, self._same_frames = mark, now_s, 0
        self._same_frames += 1
        self._frozen = self._same_frames >= FROZEN_FRAMES and (
            now_s - self._same_since_s >= FROZEN_S
        )
        look = _look(frame)
        if look is Health.OK:
            self._poor = None
        elif self._poor is None or self._poor.what is not look:
            self._poor = _Since(look, now_s)
        poor = self._poor is not None and now_s - self._poor.at_s >= DARK_S
        if poor and self._poor is not None:
            return self._become(self._poor.what)
        return self._become(Health.FROZEN if self._frozen else Health.OK)

    def _become(self, health: Health) -> bool:
        changed, self._health = health is not self._health, health
        return changed


def _look(frame: Frame) -> Health:
    grey = frame.image[::2, ::2].mean(axis=2, dtype=np.float32)
    mean, spread = float(grey.mean()), float(grey.std())
    if mean < BLACK_MEAN and spread < BLACK_SPREAD:
        return Health.BLACK
    if min(grey.shape) < 2 * _BLOCK_PX:
        return Health.BLIND
    # Means of blocks: a covered lens has noise, but no edges.
    blocks = cv2.resize(
        grey,
        (grey.shape[1] // _BLOCK_PX, grey.shape[0] // _BLOCK_PX),
        interpolation=cv2.INTER_AREA,
    )
    detail = float(np.abs(np.diff(blocks, axis=1)).mean() + np.abs(np.diff(blocks, axis=0)).mean())
    if mean > GLARE_MEAN or detail < BLIND_DETAIL:
        return Health.BLIND
    return Health.OK
