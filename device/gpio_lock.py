"""A lock on a pin of the board: a relay that lets go of the door while the output is active.

A process that is killed outright cannot lock: wire the relay so that it holds the door without
power, and let the service manager start the door again, which drives the pin to locked.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from limen.device.lock import checked_pulse_s
from limen.errors import LockError, RuntimeUnavailableError

logger = logging.getLogger(__name__)

_INSTALL = "pip install 'limen[pi]', on the board that the lock is wired to"


class GpioLock:
    """An output of gpiozero. A daemon timer ends each pulse, whatever the rest of the door does.

    pin: BCM number; active_high: whether the relay lets go when the pin is high; pin_factory:
    gpiozero's, its default where None. RuntimeUnavailableError where gpiozero or what it drives
    pins with is missing; LockError where the pin cannot be had.
    """

    def __init__(self, pin: int, *, active_high: bool = True, pin_factory: Any = None) -> None:
        try:
            import gpiozero
        except ImportError as error:
            raise RuntimeUnavailableError(f"a gpio lock needs gpiozero: {_INSTALL}") from error
        self._failures: tuple[type[Exception], ...] = (gpiozero.GPIOZeroError, OSError)
        self._guard = threading.RLock()
        self._pulse = 0
        self._timer: threading.Timer | None = None
        self._output: Any = None
        try:
            self._output = gpiozero.OutputDevice(
                pin, active_high=active_high, initial_value=False, pin_factory=pin_factory
            )
        except gpiozero.BadPinFactory as error:
            raise RuntimeUnavailableError(
                f"gpiozero finds nothing to drive pins with: {_INSTALL}"
            ) from error
        except self._failures as error:
            raise LockError(
                f"pin {pin} cannot drive the lock ({error}): check lock.pin and what else uses it"
            ) from error

    @property
    def is_locked(self) -> bool:
        with self._guard:
            return self._output is None or not self._output.value

    def open_for(self, seconds: float) -> None:
        pulse_s = checked_pulse_s(seconds)
        with self._guard:
            if self._output is None:
                raise LockError("the lock is closed: open it again")
            self._end_pulse()
            timer = threading.Timer(pulse_s, self._expire, (self._pulse,))
            timer.daemon = True
            timer.start()  # before the door is let go of: no pulse without an end
            self._timer = timer
            try:
                with self._obeying():
                    self._output.on()
            except LockError:
                with contextlib.suppress(LockError):  # the first failure is the one to tell
                    self.lock()
                raise

    def lock(self) -> None:
        with self._guard:
            self._end_pulse()
            if self._output is not None:
                with self._obeying():
                    self._output.off()

    def close(self) -> None:
        with self._guard:
            try:
                self.lock()
            finally:  # the pin is let go of even where it could not be driven to locked
                output, self._output = self._output, None
                if output is not None:
                    with self._obeying():
                        output.close()

    def _end_pulse(self) -> None:
        self._pulse += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, pulse: int) -> None:
        with self._guard:
            # A timer that was replaced while it waited for the guard must not end a later pulse.
            if pulse != self._pulse:
                return
            try:
                self.lock()
            except LockError as error:  # nobody above a timer could catch it
                logger.critical("%s", error)

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
