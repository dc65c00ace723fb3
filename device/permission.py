"""Who may enter now: rights, schedules and expiry, asked before anybody is compared."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from limen.device.subjects import References
from limen.device.trusted_clock import WallTime, believed_now

logger = logging.getLogger(__name__)


class Permission:
    """Which of a gallery's subjects may enter at the clock's time.

    Asked for every frame: it looks only at subjects who have a right, a schedule or an expiry, and
    only when the second has changed. While the clock is not trusted, whoever has a schedule or an
    expiry may not enter.
    """

    def __init__(
        self, references: References, clock: Callable[[], WallTime] = believed_now
    ) -> None:
        self._clock = clock
        self._restricted = [
            (row, details)
            for row, details in enumerate(references.details)
            if not details.may_enter or details.schedule or details.expires_at is not None
        ]
        self._timed = sum(bool(d.schedule) or d.expires_at is not None for _, d in self._restricted)
        self._told = False
        self._subjects = len(references.subject_ids)
        self._asked_at: tuple[datetime, bool] | None = None
        self._among: NDArray[np.bool_] | None = None

    def now(self) -> NDArray[np.bool_] | None:
        """(subjects,) who may enter, in the order of `subject_ids`; None where everybody may."""
        if not self._restricted:
            return None
        wall = self._clock()
        now = wall.now.replace(microsecond=0)
        if (now, wall.trusted) != self._asked_at:
            self._tell(wall.trusted)
            among = np.ones(self._subjects, np.bool_)
            for row, details in self._restricted:
                timed = bool(details.schedule) or details.expires_at is not None
                among[row] = details.admits_at(now) and (wall.trusted or not timed)
            self._among = None if among.all() else among
            self._asked_at = (now, wall.trusted)
        return self._among

    def _tell(self, trusted: bool) -> None:
        """Say once that a clock keeps people out who would wonder why."""
        if self._timed and not trusted and not self._told:
            logger.warning(
                "the clock is not trusted: %d of the enrolled have hours or an expiry and may not "
                "enter until it is ('timedatectl set-ntp true', or clock_trust)",
                self._timed,
            )
        self._told = not trusted
