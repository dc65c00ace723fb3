"""What a lock process is told when it starts: pins and limits, checked before a pin is touched."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Self

from limen.device.lock import MAX_PULSE_S
from limen.errors import ConfigError

MAX_BCM_PIN = 27
# A recogniser that stopped is noticed after this; with time to act on it, well within a second.
LEASE_S = 0.6


@dataclass(frozen=True, slots=True)
class LockSettings:
    """Pins as BCM numbers, None where not wired; seconds.

    active_high: whether the relay lets go when the pin is high. contact_pin: a switch to ground
    that is closed while the door is; exit_pin: a button to ground; tamper_pin: a loop to ground
    that opens with the casing. max_pulse_s: no request of a recogniser opens for longer;
    exit_pulse_s: how long the exit button opens; held_open_s: a door open for longer is told of.
    ConfigError for a pin that does not exist or is used twice, or a time out of bounds.
    """

    pin: int
    active_high: bool = True
    contact_pin: int | None = None
    exit_pin: int | None = None
    tamper_pin: int | None = None
    max_pulse_s: float = 10.0
    exit_pulse_s: float = 5.0
    held_open_s: float = 30.0
    lease_s: float = LEASE_S

    def __post_init__(self) -> None:
        pins = self.pins()
        for name, pin in pins.items():
            if isinstance(pin, bool) or not isinstance(pin, int) or not 0 <= pin <= MAX_BCM_PIN:
                raise ConfigError(
                    f"lock.{name}: expected a BCM number from 0 to {MAX_BCM_PIN}, found {pin!r}"
                )
        if len(set(pins.values())) < len(pins):
            raise ConfigError(
                f"lock: {', '.join(pins)} must differ, found {list(pins.values())}: wire each to "
                "a pin of its own"
            )
        bounds = {"max_pulse_s": MAX_PULSE_S, "exit_pulse_s": MAX_PULSE_S, "held_open_s": 3600.0}
        for name, most in {**bounds, "lease_s": LEASE_S}.items():
            value = getattr(self, name)
            if not (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and math.isfinite(value)
                and 0 < value <= most
            ):
                raise ConfigError(
                    f"lock.{name}: expected more than 0 and at most {most:g} seconds, "
                    f"found {value!r}"
                )

    def pins(self) -> dict[str, int]:
        """The pins that are wired, by the name of their setting."""
        every = {
            "pin": self.pin,
            "contact_pin": self.contact_pin,
            "exit_pin": self.exit_pin,
            "tamper_pin": self.tamper_pin,
        }
        return {name: pin for name, pin in every.items() if pin is not None}

    def to_json(self) -> str:
        """One line, for the lock process's command line."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `to_json`'s line. ConfigError where it is none."""
        try:
            told = json.loads(text)
        except ValueError as error:
            raise ConfigError("lock settings: expected one JSON object") from error
        known = {field.name for field in fields(cls)}
        if not isinstance(told, dict) or "pin" not in told or not told.keys() <= known:
            raise ConfigError(f"lock settings: expected an object of {', '.join(sorted(known))}")
        if not isinstance(told.get("active_high", True), bool):
            raise ConfigError("lock.active_high: expected true or false")
        return cls(**told)
