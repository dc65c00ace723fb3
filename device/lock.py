"""Locks: what a door may ask of one, and the simulated one that ships.

Whichever way a lock is left, an exception included, it is locked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from limen.errors import LockError

MAX_PULSE_S = 30.0


class NoticeKind(StrEnum):
    """What a lock tells of itself and of its door."""

    RELEASED = "released"
    LOCKED = "locked"
    DOOR_OPENED = "door_opened"
    DOOR_CLOSED = "door_closed"
    FORCED = "door_forced"
    HELD_OPEN = "door_held_open"
    EXIT_REQUESTED = "exit_requested"
    TAMPER = "tamper"


@dataclass(frozen=True, slots=True)
class LockNotice:
    """Something that happened at the lock. at_s: monotonic; reason: short words."""

    kind: NoticeKind
    at_s: float
    reason: str = ""


class Lock(Protocol):
    """A door's lock. It is locked when made, after each pulse, and when closed."""

    @property
    def is_locked(self) -> bool:
        """Whether the door is held."""
        ...

    def open_for(self, seconds: float) -> None:
        """Let go of the door now, and hold it again after `seconds`, at most 30.

        A pulse that is running is replaced. LockError where the lock does not obey.
        """
        ...

    def lock(self) -> None:
        """Hold the door now. LockError where the lock does not obey."""
        ...

    def beat(self) -> None:
        """The door works. A lock in a process of its own ends a pulse without such heartbeats.

        LockError where the lock is gone.
        """
        ...

    def take_notices(self) -> list[LockNotice]:
        """What happened at the lock since the last call, oldest first."""
        ...

    def close(self) -> None:
        """Lock and let go of the hardware. Closing twice is harmless."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def checked_pulse_s(seconds: float) -> float:
    """LockError unless a door may stay open for so long: more than 0 and at most 30 seconds."""
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_PULSE_S):
        raise LockError(
            f"a door opens for more than 0 and at most {MAX_PULSE_S:g} seconds, found {seconds}: "
            "change unlock_for_s"
        )
    return seconds


@dataclass(frozen=True, slots=True)
class Transition:
    """A simulated lock changed at `at_s`, on the lock's own clock."""

    at_s: float
    locked: bool


class SimulatedLock:
    """A lock of no metal, which records what it did.

    clock: seconds; with a recording, the frames' own time (`FrameClock`). The pulse ends when
    anybody looks, at the moment when it was due.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s: float | None = None
        self._closed = False
        self.transitions: list[Transition] = []

    @property
    def is_locked(self) -> bool:
        self.tick(self._clock())
        return self._until_s is None

    def tick(self, now_s: float) -> None:
        """End a pulse that was due by `now_s`."""
        if self._until_s is not None and now_s >= self._until_s:
            self.transitions.append(Transition(self._until_s, True))
            self._until_s = None

    def open_for(self, seconds: float) -> None:
        pulse_s = checked_pulse_s(seconds)
        if self._closed:
            raise LockError("the lock is closed: open it again")
        now_s = self._clock()
        self.tick(now_s)
        if self._until_s is None:
            self.transitions.append(Transition(now_s, False))
        self._until_s = now_s + pulse_s

    def lock(self) -> None:
        now_s = self._clock()
        self.tick(now_s)
        if self._until_s is not None:
            self.transitions.append(Transition(now_s, True))
            self._until_s = None

    def beat(self) -> None:
        self.tick(self._clock())

    def take_notices(self) -> list[LockNotice]:
        return []

    def close(self) -> None:
        self.lock()
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
