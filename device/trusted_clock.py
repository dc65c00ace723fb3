"""The wall clock, and whether it can be believed.

A Raspberry Pi has no clock that runs without power: after a power cut it starts in the past until
the network tells it the time. A schedule judged by such a clock would admit at the wrong hour.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from limen.device.events import utc_now

TIMESYNC_FLAG = Path("/run/systemd/timesync/synchronized")
# Before this, no release of limen existed: a clock that says so is wrong whatever vouches for it.
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
MAX_JUMP_S = 120.0
RECOVERY_S = 600.0
_TIME_ERROR = 5


@dataclass(frozen=True, slots=True)
class WallTime:
    """What the wall clock says, aware of its zone, and whether it can be believed."""

    now: datetime
    trusted: bool


def believed_now() -> WallTime:
    """The system's clock, taken at its word."""
    return WallTime(utc_now(), True)


class ClockTrust(StrEnum):
    """What vouches for the wall clock.

    SYNC: time synchronisation, by the kernel's or systemd-timesyncd's word. RTC: a battery-backed
    clock besides, which the owner fitted. ALWAYS: the owner's word.
    """

    SYNC = "sync"
    RTC = "rtc"
    ALWAYS = "always"


def kernel_is_synchronised() -> bool:
    """Whether the kernel's clock is disciplined by time synchronisation: adjtimex(2)."""
    if TIMESYNC_FLAG.exists():
        return True
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        # struct timex with modes 0 only reads; 512 bytes hold it on every Linux.
        return 0 <= int(libc.adjtimex(ctypes.create_string_buffer(512))) < _TIME_ERROR
    except (AttributeError, OSError):
        return False


def has_rtc() -> bool:
    """Whether the board has a hardware clock."""
    return Path("/dev/rtc0").exists()


def since_boot_s() -> float:
    """Seconds since boot; goes on while the board sleeps, and never jumps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class TrustedClock:
    """Called, says the time and whether to trust it.

    A wall clock that jumps by more than two minutes against the time since boot, as one does that
    somebody sets back a year, is not trusted until it was synchronised anew, or has been vouched
    for during ten minutes without another jump. The first synchronisation after boot is such a
    jump too, but it is vouched for from then on.
    """

    def __init__(
        self,
        trust: ClockTrust = ClockTrust.SYNC,
        *,
        wall: Callable[[], datetime] = utc_now,
        elapsed: Callable[[], float] = since_boot_s,
        synchronised: Callable[[], bool] = kernel_is_synchronised,
        rtc: Callable[[], bool] = has_rtc,
    ) -> None:
        self._trust = trust
        self._wall = wall
        self._elapsed = elapsed
        self._synchronised = synchronised
        self._rtc = rtc
        self._offset_s: float | None = None
        self._vouched_before = False
        self._suspect_since_s: float | None = None

    def __call__(self) -> WallTime:
        now, elapsed_s = self._wall(), self._elapsed()
        vouched = self._is_vouched_for()
        offset_s = now.timestamp() - elapsed_s
        if self._offset_s is not None and abs(offset_s - self._offset_s) > MAX_JUMP_S:
            self._suspect_since_s = elapsed_s
        if self._suspect_since_s is not None and vouched:
            anew = not self._vouched_before
            if anew or elapsed_s - self._suspect_since_s >= RECOVERY_S:
                self._suspect_since_s = None
        self._offset_s, self._vouched_before = offset_s, vouched
        trusted = vouched and self._suspect_since_s is None and now >= EARLIEST
        return WallTime(now, trusted)

    def _is_vouched_for(self) -> bool:
        if self._trust is ClockTrust.ALWAYS:
            return True
        return self._synchronised() or (self._trust is ClockTrust.RTC and self._rtc())
