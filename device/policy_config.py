"""The tables of a door's configuration that say what is asked besides a face, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from limen.device.gatekeeper import Demand
from limen.device.limits import LimitPolicy
from limen.device.trusted_clock import ClockTrust

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

HOURS_MOVED = (
    "[schedules] and [rights] are kept with the subjects in the gallery now, sealed, in the system's "
    "time zone: write them down with 'limen subjects describe SUBJECT… --hours \"mon,tue "
    "08:00-18:00\"' or '--no-may-enter', then remove both tables"
)


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

    second_factor: FactorConfig = Field(
        default_factory=FactorConfig, description="the table [second_factor]"
    )
    limits: LimitConfig = Field(default_factory=LimitConfig, description="the table [limits]")
    clock_trust: ClockTrust = Field(
        default=ClockTrust.SYNC,
        description="what vouches for the clock: 'sync', 'rtc' (a battery-backed one), 'always'",
    )

    @model_validator(mode="before")
    @classmethod
    def _hours_have_moved(cls, values: Any) -> Any:
        # A door whose hours were silently no longer kept would open at night.
        if isinstance(values, dict) and {"schedules", "rights"} & set(values):
            raise ValueError(HOURS_MOVED)
        return values
