"""The table [lock] of a door's configuration, and the lock that it names."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from limen.device.lock import MAX_PULSE_S, Lock, SimulatedLock
from limen.device.lock_process.client import ProcessLock
from limen.device.lock_process.settings import MAX_BCM_PIN, LockSettings
from limen.errors import LockError


class LockConfig(BaseModel):
    """The table [lock]."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["simulated", "gpio"] = Field(
        default="simulated", description="'simulated' moves nothing; 'gpio' drives a relay"
    )
    pin: int | None = Field(
        default=None, ge=0, le=MAX_BCM_PIN, description="BCM number of the relay's pin"
    )
    active_high: bool = Field(
        default=True, description="whether the relay lets go when the pin is high"
    )
    contact_pin: int | None = Field(
        default=None,
        ge=0,
        le=MAX_BCM_PIN,
        description="BCM number of the door contact, closed to ground while the door is shut",
    )
    exit_pin: int | None = Field(
        default=None, ge=0, le=MAX_BCM_PIN, description="BCM number of the exit button, to ground"
    )
    tamper_pin: int | None = Field(
        default=None,
        ge=0,
        le=MAX_BCM_PIN,
        description="BCM number of the casing's loop, closed to ground while the casing is",
    )
    max_pulse_s: float = Field(
        default=10.0, gt=0, le=MAX_PULSE_S, description="longest opening that is ever obeyed"
    )
    exit_pulse_s: float = Field(
        default=5.0, gt=0, le=MAX_PULSE_S, description="how long the exit button opens"
    )
    held_open_s: float = Field(
        default=30.0, gt=0, le=3600, description="a door open for longer is told of"
    )
    socket: Path | None = Field(
        default=None,
        description="where the lock service listens; without, the door starts a lock process",
    )
    accept_no_liveness: bool = Field(
        default=False,
        description="true: the owner accepts that a photograph of somebody may open this door",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.kind == "gpio":
            if self.pin is None and self.socket is None:
                raise ValueError("a gpio lock needs its pin: set lock.pin to the BCM number")
            if self.pin is not None:
                self.settings()  # its ConfigError is a ValueError, which pydantic tells
        return self

    def settings(self) -> LockSettings:
        """What the lock process is told. LockError without a pin, ConfigError where pins clash."""
        if self.pin is None:
            raise LockError("a gpio lock needs its pin: set lock.pin to the BCM number")
        return LockSettings(
            pin=self.pin,
            active_high=self.active_high,
            contact_pin=self.contact_pin,
            exit_pin=self.exit_pin,
            tamper_pin=self.tamper_pin,
            max_pulse_s=self.max_pulse_s,
            exit_pulse_s=self.exit_pulse_s,
            held_open_s=self.held_open_s,
        )


def open_lock(config: LockConfig, clock: Callable[[], float] = time.monotonic) -> Lock:
    """The lock that a configuration names; `clock` is a simulated one's.

    A gpio lock is always another process: the service that listens on `socket`, or one of our own.
    LockError where it cannot drive its pin, or nothing answers.
    """
    if config.kind == "simulated":
        return SimulatedLock(clock)
    if config.socket is not None:
        return ProcessLock.connect(config.socket)
    return ProcessLock.start(config.settings())
