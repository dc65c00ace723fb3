"""A real lock process, real recognisers that are killed, and the pin as gpiozero's mock sees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from limen.device.lock_process.client import ProcessLock
from limen.device.lock_process.settings import LockSettings
from limen.errors import LockError

pytest.importorskip("gpiozero")

HERE = Path(__file__).parent
WITNESS, RECOGNISER = str(HERE / "witness.py"), str(HERE / "recogniser.py")


class Log:
    """What the witness saw, and the way to drive the switches."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def changes(self) -> list[tuple[float, str]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [(float(at), level) for at, level in (line.split() for line in lines)]

    def last(self) -> str:
        return self.changes()[-1][1]

    def wait_for(self, level: str, within_s: float = 5.0) -> float:
        """When the pin last came to `level`, waiting for it."""
        end_s = time.monotonic() + within_s
        while time.monotonic() < end_s:
            changes = self.changes()
            if changes and changes[-1][1] == level:
                return changes[-1][0]
            time.sleep(0.01)
        raise AssertionError(f"the pin never became {level}: {self.changes()}")

    def drive(self, pin: int, level: str) -> None:
        with self.path.with_name(self.path.name + ".in").open("a") as switches:
            switches.write(f"{pin} {level}\n")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "pin.log")


@pytest.fixture
def command(log: Log) -> tuple[str, ...]:
    return (sys.executable, WITNESS, str(log.path))


@pytest.fixture
def wired(log: Log, command: tuple[str, ...]) -> Iterator[ProcessLock]:
    """A lock with a contact, an exit button and a tamper loop, door and casing closed."""
    settings = LockSettings(
        pin=17, contact_pin=22, exit_pin=23, tamper_pin=24, exit_pulse_s=0.5, held_open_s=0.5
    )
    with ProcessLock.start(settings, command) as lock:
        log.drive(22, "low")
        log.drive(24, "low")
        beat_for(lock, 0.3)
        lock.take_notices()
        yield lock


def beat_for(lock: ProcessLock, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        lock.beat()
        time.sleep(0.02)


def notices(lock: ProcessLock) -> list[str]:
    return [notice.kind.value for notice in lock.take_notices()]


@pytest.mark.parametrize("way", ["exception", "hang", "SIGTERM", "SIGINT", "SIGKILL", "SIGSTOP"])
def test_lock_process_relocks_within_a_second_when_the_recogniser_leaves(
    way: str, log: Log
) -> None:
    by_signal = way.startswith("SIG")
    with subprocess.Popen(
        [sys.executable, RECOGNISER, "beat" if by_signal else way, WITNESS, str(log.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as recogniser:
        assert recogniser.stdout is not None
        try:
            word, process_id = recogniser.stdout.readline().split()
            assert word == "open"
            log.wait_for("True")
            if by_signal:
                time.sleep(1.2)
                assert log.last() == "True"
                left_s = time.monotonic()
                recogniser.send_signal(getattr(signal, way))
            else:
                word, at_s = recogniser.stdout.readline().split()
                assert word == "working"
                left_s = float(at_s)
            end_s = time.monotonic() + 3
            while log.last() == "True" and time.monotonic() < end_s:
                time.sleep(0.01)
            locked_s = next(at for at, level in log.changes() if level == "False" and at >= left_s)
            assert locked_s - left_s < 1.0
        finally:
            recogniser.kill()
    # The lock process does not outlive its recogniser.
    end_s = time.monotonic() + 5
    while _runs(int(process_id)) and time.monotonic() < end_s:
        time.sleep(0.02)
    assert not _runs(int(process_id))


def _runs(process_id: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False


def test_pin_is_locked_from_the_start_and_follows_requests(
    log: Log, command: tuple[str, ...]
) -> None:
    with ProcessLock.start(LockSettings(pin=17, active_high=False), command) as lock:
        assert lock.is_locked
        assert log.wait_for("True")
        lock.open_for(0.4)
        assert not lock.is_locked
        opened_s = log.wait_for("False")
        beat_for(lock, 0.7)
        assert lock.is_locked
        assert 0.35 < log.wait_for("True") - opened_s < 0.7
        lock.open_for(5.0)
        lock.lock()
        assert lock.is_locked
        log.wait_for("True")
        assert notices(lock) == ["released", "locked", "released", "locked"]
    lock.close()
    with pytest.raises(LockError, match="closed"):
        lock.open_for(1.0)


def test_pulse_has_a_hard_limit_however_often_it_is_asked_for(
    log: Log, command: tuple[str, ...]
) -> None:
    with ProcessLock.start(LockSettings(pin=17, max_pulse_s=0.8), command) as lock:
        with pytest.raises(LockError, match=r"max_pulse_s"):
            lock.open_for(0.9)
        lock.open_for(0.8)
        opened_s = log.wait_for("True")
        refused = ""
        while not refused and time.monotonic() < opened_s + 3:
            try:
                lock.open_for(0.8)
            except LockError as error:
                refused = str(error)
            time.sleep(0.02)
        assert "limit" in refused
        assert log.wait_for("False") - opened_s < 1.0


def test_recogniser_is_told_that_its_lock_process_is_gone(
    log: Log, command: tuple[str, ...]
) -> None:
    with ProcessLock.start(LockSettings(pin=17), command) as lock:
        assert lock.process_id
        os.kill(lock.process_id, signal.SIGKILL)
        with pytest.raises(LockError, match="lock process is gone"):
            beat_for(lock, 5.0)
        with pytest.raises(LockError, match="lock process is gone"):
            lock.open_for(1.0)


def test_stopped_lock_process_is_noticed_and_obeys_no_old_request(
    log: Log, command: tuple[str, ...]
) -> None:
    with ProcessLock.start(LockSettings(pin=17), command) as lock:
        assert lock.process_id
        os.kill(lock.process_id, signal.SIGSTOP)
        with pytest.raises(LockError, match="no answer"):
            lock.open_for(1.0)
        time.sleep(0.2)
        os.kill(lock.process_id, signal.SIGCONT)
        time.sleep(0.3)
        assert [level for _, level in log.changes() if level == "True"] == []


def test_sigterm_in_the_middle_of_a_pulse_locks(log: Log, command: tuple[str, ...]) -> None:
    with ProcessLock.start(LockSettings(pin=17), command) as lock:
        lock.open_for(5.0)
        log.wait_for("True")
        assert lock.process_id
        os.kill(lock.process_id, signal.SIGTERM)
        log.wait_for("input", 2.0)  # let go of, and driven to locked before
        assert [level for _, level in log.changes()][:3] == ["False", "True", "False"]


def test_closing_door_ends_the_pulse(wired: ProcessLock, log: Log) -> None:
    wired.open_for(5.0)
    log.drive(22, "high")
    beat_for(wired, 0.2)
    assert wired.state().door_open
    assert log.last() == "True"
    log.drive(22, "low")
    beat_for(wired, 0.2)
    assert log.last() == "False"
    assert notices(wired) == ["released", "door_opened", "door_closed", "locked"]


def test_door_that_opens_while_it_is_locked_was_forced(wired: ProcessLock, log: Log) -> None:
    log.drive(22, "high")
    beat_for(wired, 0.9)
    assert notices(wired) == ["door_forced", "door_held_open"]


def test_exit_button_opens_without_a_recogniser_once_a_press(wired: ProcessLock, log: Log) -> None:
    log.drive(23, "low")
    pressed_s = log.wait_for("True")
    assert 0.4 < log.wait_for("False") - pressed_s < 0.9  # held down: still one pulse
    time.sleep(0.2)
    assert log.last() == "False"
    log.drive(23, "high")
    time.sleep(0.2)
    assert notices(wired) == ["exit_requested", "released", "locked"]


def test_open_casing_locks_and_obeys_nobody_but_the_exit_button(
    wired: ProcessLock, log: Log
) -> None:
    wired.open_for(5.0)
    log.drive(24, "high")  # opened, or the wire cut
    beat_for(wired, 0.2)
    assert log.last() == "False"
    with pytest.raises(LockError, match="casing"):
        wired.open_for(1.0)
    log.drive(23, "low")
    log.wait_for("True")
    assert notices(wired) == ["released", "tamper", "locked", "exit_requested", "released"]


def test_service_serves_one_recogniser_at_a_time_and_outlives_it(
    log: Log, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "lock.sock"
    arguments = [*command, "--socket", str(path), LockSettings(pin=17).to_json()]
    with subprocess.Popen(arguments) as service:
        try:
            end_s = time.monotonic() + 20
            while not path.exists() and time.monotonic() < end_s:
                time.sleep(0.02)
            assert path.stat().st_mode & 0o777 == 0o660
            with ProcessLock.connect(path) as first, ProcessLock.connect(path) as second:
                first.open_for(5.0)
                with pytest.raises(LockError, match="another recogniser"):
                    second.open_for(1.0)
                assert not second.state().locked
                first.close()
                log.wait_for("False", 1.0)
                second.open_for(5.0)
            log.wait_for("False", 1.0)
            again = subprocess.run(arguments, capture_output=True, text=True, check=False)
            assert again.returncode == 2
            assert "another lock process" in again.stderr
        finally:
            service.terminate()
        assert service.wait(2.0) == 0
    assert not path.exists()
    with pytest.raises(LockError, match=r"lock\.socket"):
        ProcessLock.connect(path)


def test_door_forced_while_no_recogniser_ran_is_told_to_the_next(
    log: Log, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "lock.sock"
    settings = LockSettings(pin=17, contact_pin=22, tamper_pin=24)
    with subprocess.Popen([*command, "--socket", str(path), settings.to_json()]) as service:
        try:
            end_s = time.monotonic() + 20
            while not path.exists() and time.monotonic() < end_s:
                time.sleep(0.02)
            log.drive(24, "low")
            log.drive(22, "low")
            time.sleep(0.3)
            log.drive(22, "high")
            time.sleep(0.3)
            with ProcessLock.connect(path) as lock:
                beat_for(lock, 0.2)
                assert notices(lock)[-1] == "door_forced"
            with ProcessLock.connect(path) as lock:
                beat_for(lock, 0.2)
                assert "door_forced" not in notices(lock)  # once
        finally:
            service.terminate()


def test_garbage_on_the_socket_closes_that_connection_only(
    log: Log, command: tuple[str, ...]
) -> None:
    with ProcessLock.start(LockSettings(pin=17), command) as lock:
        lock.open_for(5.0)
        assert lock._connection is not None
        lock._connection.send(b'{"v": 1, "kind": "open", "number": 1e400}')
        log.wait_for("input", 2.0)
        assert [level for _, level in log.changes()][:3] == ["False", "True", "False"]


def test_pin_that_cannot_be_had_is_one_sentence(tmp_path: Path) -> None:
    code = (
        "import gpiozero, sys; from gpiozero.pins.mock import MockFactory\n"
        "gpiozero.Device.pin_factory = MockFactory(); taken = gpiozero.LED(17)\n"
        "from limen.device.lock_process.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    with pytest.raises(LockError, match="pin 17 cannot be had"):
        ProcessLock.start(LockSettings(pin=17), (sys.executable, "-c", code))


def test_board_without_pins_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "lgpio")  # no chip here
    with pytest.raises(LockError, match=r"limen\[pi\]|cannot be had"):
        ProcessLock.start(LockSettings(pin=17))


def test_lock_process_is_small() -> None:
    code = (
        "import limen.device.lock_process.__main__, sys; "
        "sys.exit(bool({'numpy', 'cv2', 'pydantic', 'typer', 'sqlite3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
