from __future__ import annotations

from pathlib import Path

import pytest

from limen.device.lock import SimulatedLock, Transition
from limen.device.lock_config import LockConfig, open_lock
from limen.errors import LockError


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
def test_pulse_has_a_hard_limit(seconds: float) -> None:
    with SimulatedLock() as lock:
        with pytest.raises(LockError, match="30"):
            lock.open_for(seconds)
        assert lock.is_locked


def test_lock_is_opened_by_its_configuration(tmp_path: Path) -> None:
    with open_lock(LockConfig()) as lock:
        assert isinstance(lock, SimulatedLock)
    with pytest.raises(LockError, match="no lock process answers"):
        open_lock(LockConfig(kind="gpio", socket=tmp_path / "lock.sock"))
