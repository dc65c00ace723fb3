"""The lock's pins through gpiozero: the relay's output, and the switches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from limen.device.lock_process.keeper import Inputs
from limen.device.lock_process.settings import LockSettings
from limen.errors import LockError, RuntimeUnavailableError

_INSTALL = "pip install 'limen[pi]', on the board that the lock is wired to"


class LockPins:
    """The relay on its pin, locked when made and when closed; the switches, pulled up.

    pin_factory: gpiozero's, its default where None. RuntimeUnavailableError where gpiozero or what
    it drives pins with is missing; LockError where a pin cannot be had, or does not obey.
    """

    def __init__(self, settings: LockSettings, pin_factory: Any = None) -> None:
        try:
            import gpiozero
        except ImportError as error:
            raise RuntimeUnavailableError(f"a gpio lock needs gpiozero: {_INSTALL}") from error
        self._failures: tuple[type[Exception], ...] = (gpiozero.GPIOZeroError, OSError)
        self._output: Any = None
        self._switches: dict[str, Any] = {}
        at = settings.pin
        try:
            # The output first: whatever fails after it, the pin has been driven to locked.
            self._output = gpiozero.OutputDevice(
                settings.pin,
                active_high=settings.active_high,
                initial_value=False,
                pin_factory=pin_factory,
            )
            for name, pin in settings.pins().items():
                if name != "pin":
                    at = pin
                    self._switches[name] = gpiozero.InputDevice(
                        pin, pull_up=True, pin_factory=pin_factory
                    )
        except gpiozero.BadPinFactory as error:
            self._let_go()
            raise RuntimeUnavailableError(
                f"gpiozero finds nothing to drive pins with: {_INSTALL}"
            ) from error
        except self._failures as error:
            self._let_go()
            raise LockError(
                f"pin {at} cannot be had ({error}): check the table [lock], what else uses the "
                "pin, and that this user is in the group 'gpio'"
            ) from error

    def release(self, released: bool) -> None:
        """Let go of the door, or hold it."""
        if self._output is None:
            raise LockError("the lock's pins are closed: start the lock process again")
        with self._obeying():
            if released:
                self._output.on()
            else:
                self._output.off()

    def read(self) -> Inputs:
        """The switches. A contact or loop whose wire is cut reads as open, hence as the alarm."""
        with self._obeying():
            # Pulled up, and gpiozero's value is 1 while the switch connects to ground.
            closed = {name: bool(switch.value) for name, switch in self._switches.items()}
        contact, button, loop = (closed.get(f"{n}_pin") for n in ("contact", "exit", "tamper"))
        return Inputs(
            door_open=None if contact is None else not contact,
            exit_pressed=button,
            tampered=None if loop is None else not loop,
        )

    def close(self) -> None:
        """Hold the door and let go of the pins. Closing twice is harmless."""
        try:
            if self._output is not None:
                self.release(False)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        devices = [self._output, *self._switches.values()]
        self._output, self._switches = None, {}
        for device in devices:
            if device is not None:
                with contextlib.suppress(*self._failures):  # the kernel takes them back anyway
                    device.close()

    @contextlib.contextmanager
    def _obeying(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise LockError(
                f"the lock does not obey ({error}): lock the door by hand, then check its wiring"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
