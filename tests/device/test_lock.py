from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from limen.device.gpio_lock import GpioLock
from limen.device.lock import SimulatedLock, Transition, open_lock
from limen.errors import LockError, RuntimeUnavailableError

gpiozero = pytest.importorskip("gpiozero")
from gpiozero.pins.mock import MockFactory  # noqa: E402  needs gpiozero


@pytest.fixture
def factory() -> Iterator[Any]:
    factory = MockFactory()
    yield factory
    factory.close()


def wait_until_locked(lock: GpioLock) -> None:
    end_s = time.monotonic() + 5
    while not lock.is_locked and time.monotonic() < end_s:
        time.sleep(0.005)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_simulated_pulse_ends_when_it_was_due() -> None:
    clock = Clock()
    lock = SimulatedLock(clock)
    assert lock.is_locked
    clock.now_s = 1.0
    lock.open_for(3.0)
    assert not lock.is_locked
    clock.now_s = 3.999
    assert not lock.is_locked
    clock.now_s = 9.0
    assert lock.is_locked
    assert lock.transitions == [Transition(1.0, False), Transition(4.0, True)]


def test_simulated_pulse_is_replaced_by_a_later_one() -> None:
    clock = Clock()
    lock = SimulatedLock(clock)
    lock.open_for(3.0)
    clock.now_s = 2.0
    lock.open_for(3.0)
    clock.now_s = 4.0
    assert not lock.is_locked
    lock.lock()
    assert lock.transitions == [Transition(0.0, False), Transition(4.0, True)]


def test_simulated_lock_is_locked_after_an_exception_and_stays_so() -> None:
    lock = SimulatedLock(Clock())
    with pytest.raises(ZeroDivisionError), lock:
        lock.open_for(3.0)
        raise ZeroDivisionError
    assert lock.is_locked
    lock.close()
    with pytest.raises(LockError, match="closed"):
        lock.open_for(1.0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 30.001, float("nan"), float("inf")])
def test_pulse_has_a_hard_limit(seconds: float, factory: Any) -> None:
    with SimulatedLock() as simulated, GpioLock(17, pin_factory=factory) as lock:
        for each in (simulated, lock):
            with pytest.raises(LockError, match="30"):
                each.open_for(seconds)
            assert each.is_locked


@pytest.mark.parametrize("active_high", [True, False])
def test_gpio_pulse_drives_the_pin_and_ends_by_itself(active_high: bool, factory: Any) -> None:
    pin = factory.pin(17)
    with GpioLock(17, active_high=active_high, pin_factory=factory) as lock:
        assert lock.is_locked
        assert pin.state == (not active_high)
        lock.open_for(0.05)
        assert not lock.is_locked
        assert pin.state == active_high
        wait_until_locked(lock)
        assert lock.is_locked
        assert pin.state == (not active_high)


def test_gpio_pulse_that_was_replaced_does_not_end_the_later_one(factory: Any) -> None:
    with GpioLock(17, pin_factory=factory) as lock:
        lock.open_for(0.05)
        lock.open_for(30.0)
        time.sleep(0.15)
        assert not lock.is_locked
        lock.lock()
        assert lock.is_locked


def test_gpio_lock_is_locked_after_an_exception_and_closes_twice(factory: Any) -> None:
    pin = factory.pin(17)
    states: list[bool] = []
    with pytest.raises(ZeroDivisionError), GpioLock(17, pin_factory=factory) as lock:
        lock.open_for(30.0)
        pin.clear_states()
        raise ZeroDivisionError
    states = [state.state for state in pin.states]
    assert states[-1] is False
    assert lock.is_locked
    lock.close()
    with pytest.raises(LockError, match="closed"):
        lock.open_for(1.0)


def test_pin_in_use_is_a_lock_error(factory: Any) -> None:
    with GpioLock(17, pin_factory=factory), pytest.raises(LockError, match="pin 17"):
        GpioLock(17, pin_factory=factory)


def test_lock_that_does_not_obey_says_so_and_is_still_let_go_of(
    factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = GpioLock(17, pin_factory=factory)

    def broken() -> None:
        raise OSError("wire")

    monkeypatch.setattr(lock._output, "on", broken)
    with pytest.raises(LockError, match="does not obey"):
        lock.open_for(1.0)
    assert lock.is_locked
    monkeypatch.setattr(lock._output, "off", broken)
    with pytest.raises(LockError, match="does not obey"):
        lock.close()
    lock.close()
    GpioLock(17, pin_factory=factory).close()


def test_missing_gpiozero_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiozero", None)
    with pytest.raises(RuntimeUnavailableError, match=r"limen\[pi\]"):
        GpioLock(17)


def test_board_without_pins_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pins(*_: Any, **__: Any) -> None:
        raise gpiozero.BadPinFactory("none")

    monkeypatch.setattr(gpiozero, "OutputDevice", no_pins)
    with pytest.raises(RuntimeUnavailableError, match=r"limen\[pi\]"):
        GpioLock(17)


def test_lock_is_opened_by_its_kind() -> None:
    with open_lock("simulated") as lock:
        assert lock.is_locked
    with pytest.raises(LockError, match=r"lock\.pin"):
        open_lock("gpio")
    with pytest.raises(LockError, match="unknown lock"):
        open_lock("magnet")
