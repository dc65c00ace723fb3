"""A lock process on gpiozero's mock pins, with a witness on its relay pin inside the process.

witness.py LOG arguments-of-the-lock-process…: appends a line to LOG whenever the pin is driven or
let go of: monotonic seconds, level. Lines that a test appends to LOG.in drive other pins: `22 low`.
"""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import gpiozero
from gpiozero.pins.mock import MockFactory, MockPin

from limen.device.lock_process.__main__ import main

RELAY = 17
LOG = Path(sys.argv[1])


class WitnessedPin(MockPin):
    """Writes down what happens to the relay's pin, before anybody can die of it."""

    def _set_function(self, value: str) -> None:
        super()._set_function(value)
        self._note("input" if value == "input" else str(self._state))

    def _change_state(self, value: bool) -> bool:
        changed = super()._change_state(value)
        if changed and self._function == "output":
            self._note(str(value))
        return bool(changed)

    def _note(self, level: str) -> None:
        if self.info.name == f"GPIO{RELAY}":
            with LOG.open("a") as out:
                out.write(f"{time.monotonic():.4f} {level}\n")


def drive_switches(factory: Any) -> None:
    asked, done = LOG.with_name(LOG.name + ".in"), 0
    while True:
        lines = asked.read_text().splitlines(keepends=True) if asked.exists() else []
        for line in (each for each in lines[done:] if each.endswith("\n")):
            number, what = line.split()
            pin = factory.pin(int(number))
            pin.drive_low() if what == "low" else pin.drive_high()
            done += 1
        time.sleep(0.005)


if __name__ == "__main__":
    factory = gpiozero.Device.pin_factory = MockFactory(pin_class=WitnessedPin)
    threading.Thread(target=drive_switches, args=(factory,), daemon=True).start()
    sys.exit(main(sys.argv[2:]))
