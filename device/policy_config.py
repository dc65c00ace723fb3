"""The tables of a door's configuration that say who may enter when, and what is asked besides."""

from __future__ import annotations

from datetime import time, tzinfo
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, model_validator

from limen.device.gatekeeper import Demand
from limen.device.limits import LimitPolicy
from limen.device.rights import DAYS, Day, Period, Rights
from limen.device.trusted_clock import ClockTrust

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PeriodConfig(BaseModel):
    """One period of a schedule."""

    model_config = _STRICT

    days: tuple[Day, ...] = Field(
        default=DAYS, min_length=1, description="days on which the period starts"
    )
    start: time = Field(description="local time at which it starts, such as '07:00'")
    end: time = Field(
        description="local time before which it ends; '00:00' is midnight, an earlier one the "
        "next day's"
    )


class RightsConfig(BaseModel):
    """The table [rights]."""

    model_config = _STRICT

    default: tuple[str, ...] = Field(
        default=("always",), description="schedules of everybody who is not named below"
    )
    subjects: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="schedules by subject; 'always' and 'never' are known"
    )
    timezone: str | None = Field(
        default=None, max_length=64, description="such as 'Europe/Berlin'; the system's where none"
    )

    def zone(self) -> tzinfo | None:
        """The zone. ValueError for one that is not known."""
        if self.timezone is None:
            return None
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"no time zone is called '{self.timezone}'; expected one such as 'Europe/Berlin', "
                "and Debian's package tzdata"
            ) from error


class FactorConfig(BaseModel):
    """The table [second_factor]."""

    model_config = _STRICT

    demand: Demand = Field(
        default=Demand.NEVER,
        description="'never'; 'contested': of lookalikes and close calls; 'always'",
    )
    input: str = Field(
        default="stdin",
        min_length=1,
        max_length=1000,
        description="'stdin', or a keypad's or card reader's /dev/input/by-id/…",
    )
    file: Path = Field(
        default=Path("second-factors.json"), description="where PINs and cards are kept, hashed"
    )
    patience_s: float = Field(
        default=20.0, gt=0, le=120, description="how long an entry is awaited"
    )


class LimitConfig(BaseModel):
    """The table [limits]."""

    model_config = _STRICT

    lockout_after: int = Field(
        default=10, ge=0, le=1000, description="refusals that lock everybody out; 0 for never"
    )
    lockout_window_s: float = Field(
        default=300.0, gt=0, le=86400, description="time within which refusals are counted"
    )
    lockout_s: float = Field(default=60.0, gt=0, le=86400, description="how long a lock-out lasts")
    budget: int = Field(
        default=0, ge=0, le=100000, description="most openings within budget_s; 0 for no limit"
    )
    budget_s: float = Field(
        default=3600.0, gt=0, le=86400, description="time within which openings are counted"
    )

    def policy(self) -> LimitPolicy:
        """The limits."""
        return LimitPolicy(**self.model_dump())


class PolicyConfig(BaseModel):
    """What a door's configuration says besides votes, cameras and pins."""

    model_config = _STRICT

    schedules: dict[str, tuple[PeriodConfig, ...]] = Field(
        default_factory=dict, description="periods by the name of the schedule"
    )
    rights: RightsConfig = Field(default_factory=RightsConfig, description="the table [rights]")
    second_factor: FactorConfig = Field(
        default_factory=FactorConfig, description="the table [second_factor]"
    )
    limits: LimitConfig = Field(default_factory=LimitConfig, description="the table [limits]")
    clock_trust: ClockTrust = Field(
        default=ClockTrust.SYNC,
        description="what vouches for the clock: 'sync', 'rtc' (a battery-backed one), 'always'",
    )

    @model_validator(mode="after")
    def _rights_are_defined(self) -> Self:
        self.rights_policy()
        return self

    def rights_policy(self) -> Rights:
        """Schedules and rights. ConfigError for a schedule that is not defined."""
        return Rights(
            schedules={
                name: tuple(Period(frozenset(p.days), p.start, p.end) for p in periods)
                for name, periods in self.schedules.items()
            },
            default=self.rights.default,
            subjects=self.rights.subjects,
            zone=self.rights.zone(),
        )
