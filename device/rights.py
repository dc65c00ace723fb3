"""Who may enter when: schedules in the door's local time, and each subject's rights.

Pure. A schedule needs a clock that is trusted; without one it admits nobody.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, tzinfo
from typing import Literal

from limen.errors import ConfigError

ALWAYS, NEVER = "always", "never"
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MIDNIGHT = time(0, 0)


@dataclass(frozen=True, slots=True)
class WallTime:
    """What the wall clock says, aware of its zone, and whether it can be believed."""

    now: datetime
    trusted: bool


def believed_now() -> WallTime:
    """The system's clock, taken at its word."""
    return WallTime(datetime.now(UTC), True)


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` to before `end` of the days named; past midnight where `end` is not later.

    days: of DAYS, those on which the period starts. An `end` of 00:00 is the day's end.
    """

    days: frozenset[str]
    start: time
    end: time

    def __post_init__(self) -> None:
        unknown = self.days - set(DAYS)
        if unknown or not self.days:
            raise ConfigError(
                f"days: expected some of {', '.join(DAYS)}, found {sorted(self.days)}"
            )

    def covers(self, local: datetime) -> bool:
        """Whether a local time lies in the period."""
        today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
        at = local.time()
        if self.start < self.end or self.end == _MIDNIGHT:
            return (
                today in self.days and self.start <= at and (at < self.end or self.end == _MIDNIGHT)
            )
        return (today in self.days and at >= self.start) or (
            yesterday in self.days and at < self.end
        )


@dataclass(frozen=True, slots=True)
class Rights:
    """Which schedules admit whom.

    schedules: periods by name; default: the schedules of whoever is not named in `subjects`;
    'always' and 'never' are known. zone: the door's, the system's where None. ConfigError for a
    schedule that is not defined.
    """

    schedules: Mapping[str, tuple[Period, ...]] = field(default_factory=dict)
    default: tuple[str, ...] = (ALWAYS,)
    subjects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    zone: tzinfo | None = None

    def __post_init__(self) -> None:
        known = [ALWAYS, NEVER, *self.schedules]
        for name in (*self.default, *(n for names in self.subjects.values() for n in names)):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
                raise ConfigError(f"rights: no schedule is called '{name}'; {hint}")

    def refusal(self, subject_id: str, wall: WallTime) -> str:
        """Why a subject may not enter now; '' where they may."""
        names = self.subjects.get(subject_id, self.default)
        if ALWAYS in names:
            return ""
        named = [name for name in names if name != NEVER]
        if not named:
            return "no right to enter"
        if not wall.trusted:
            return "the clock is not trusted"
        local = wall.now.astimezone(self.zone)
        if any(period.covers(local) for name in named for period in self.schedules[name]):
            return ""
        return "outside the schedule"
