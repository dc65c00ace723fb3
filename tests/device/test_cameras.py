"""Cameras on bad days: gone, late, frozen, dark, garbage, another size; and recorded sessions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limen.device.camera_health import Health, HealthMonitor
from limen.device.newest import NewestFrames
from limen.device.opencv_source import MAX_GARBAGE, LiveSource
from limen.device.reconnecting import FIRST_WAIT_S, LONGEST_WAIT_S, ReconnectingSource
from limen.device.recording import RecordingSource, SessionSource
from limen.device.sources import SESSION_FILE, ArraySource, open_source
from limen.device.values import Frame
from limen.errors import RuntimeUnavailableError, SourceError

RNG = np.random.default_rng(7)


def noise(low: int = 60, high: int = 180, side: int = 128) -> NDArray[np.uint8]:
    return RNG.integers(low, high, (side, side, 3)).astype(np.uint8)


def flat(level: int) -> NDArray[np.uint8]:
    return np.clip(RNG.normal(level, 0.4, (128, 128, 3)), 0, 255).astype(np.uint8)


def watch(
    monitor: HealthMonitor, make: Callable[[], NDArray[np.uint8]], start_s: float, seconds: float
) -> list[str]:
    """The states in the order of their news, at ten frames a second."""
    news = []
    for step in range(int(seconds * 10)):
        if monitor.see(Frame(make(), start_s + step / 10, step)):
            news.append(monitor.health.value)
    return news


def test_camera_that_goes_black_blind_or_frozen_is_told_of_and_recovers() -> None:
    monitor = HealthMonitor()
    still = noise()
    assert watch(monitor, noise, 0.0, 2.0) == ["ok"]
    assert watch(monitor, lambda: flat(3), 10.0, 4.0) == ["black"]
    assert watch(monitor, noise, 20.0, 1.0) == ["ok"]
    assert watch(monitor, lambda: flat(120), 30.0, 4.0) == ["blind"]
    assert watch(monitor, noise, 40.0, 1.0) == ["ok"]
    assert watch(monitor, lambda: flat(252), 41.0, 4.0) == ["blind"]
    assert watch(monitor, noise, 50.0, 1.0) == ["ok"]
    assert watch(monitor, lambda: still, 60.0, 7.0) == ["frozen"]
    assert monitor.is_frozen
    assert watch(monitor, noise, 70.0, 0.1) == ["ok"]
    assert monitor.stopped()
    assert not monitor.stopped()
    assert watch(monitor, noise, 80.0, 0.5) == ["ok"]


def test_glance_at_the_dark_is_no_news() -> None:
    monitor = HealthMonitor()
    watch(monitor, noise, 0.0, 1.0)
    assert watch(monitor, lambda: flat(3), 1.0, 2.0) == []
    assert watch(monitor, noise, 3.0, 1.0) == []
    assert monitor.health is Health.OK


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Flaky(ArraySource):
    """Gives some frames, then breaks."""

    def __iter__(self) -> Iterator[Frame]:
        yield from super().__iter__()
        raise SourceError("unplugged")


def test_camera_that_appears_late_and_breaks_comes_back_and_frames_count_on() -> None:
    clock, attempts, lost, idle = Time(), list[float](), list[str](), list[float]()

    def open_camera() -> ArraySource:
        attempts.append(clock.now_s)
        if len(attempts) <= 3:
            raise SourceError("camera 0 is not there")
        return Flaky((noise(), float(i)) for i in range(2))

    source = ReconnectingSource(
        open_camera, on_lost=lambda error: lost.append(str(error)), clock=clock, sleep=clock.sleep
    )
    source.when_idle(lambda: idle.append(clock.now_s))
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == 5:
            source.close()
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4]
    assert lost == ["camera 0 is not there"] * 3 + ["unplugged"] * 2
    waits = np.diff(attempts)
    assert waits == pytest.approx([FIRST_WAIT_S * 2**i for i in range(5)])
    assert max(np.diff(idle)) <= 0.21  # whoever waits is asked often enough to stop in time


def test_door_is_attended_to_while_a_camera_is_opened_and_one_that_comes_too_late_is_closed() -> (
    None
):
    """A network camera that takes the connection and says nothing for ten seconds."""
    answers, closed = threading.Event(), threading.Event()

    class Late(ArraySource):
        def close(self) -> None:
            closed.set()

    def open_camera() -> ArraySource:
        answers.wait(10.0)
        return Late([(noise(), 0.0)])

    calls = list[float]()

    def idle() -> None:
        calls.append(time.monotonic())
        if len(calls) == 3:
            raise KeyboardInterrupt  # as a signal, or a request to stop

    source = ReconnectingSource(open_camera)
    source.when_idle(idle)
    started_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt), source:
        next(iter(source))
    assert time.monotonic() - started_s < 5.0
    assert not closed.is_set()
    answers.set()
    assert closed.wait(5.0)


def test_waiting_grows_no_longer_than_half_a_minute() -> None:
    clock, attempts = Time(), list[float]()

    def open_camera() -> ArraySource:
        attempts.append(clock.now_s)
        raise SourceError("none")

    source = ReconnectingSource(open_camera, clock=clock, sleep=clock.sleep)
    source.when_idle(lambda: source.close() if len(attempts) == 12 else None)
    assert list(source) == []
    assert max(np.diff(attempts)) == pytest.approx(LONGEST_WAIT_S)


def test_missing_package_is_not_waited_for() -> None:
    def open_camera() -> ArraySource:
        raise RuntimeUnavailableError("picamera2 cannot be imported")

    with pytest.raises(RuntimeUnavailableError):
        list(ReconnectingSource(open_camera))


class Camera:
    """Gives what it is told to; after the last, waits until it is released."""

    def __init__(self, *given: Any) -> None:
        self.given = list(given)
        self.released = threading.Event()

    def read(self) -> tuple[bool, Any]:
        if not self.given:
            self.released.wait(0.05)
            return True, noise()[:, :, 0]
        return True, self.given.pop(0)

    def release(self) -> None:
        self.released.set()


@pytest.mark.parametrize(
    "garbage",
    [np.zeros((128, 128, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros(9, np.uint8), "text"],
)
def test_garbage_is_passed_over_and_a_camera_of_nothing_else_is_given_up(garbage: Any) -> None:
    with LiveSource(Camera(garbage, garbage), "camera 0") as source:
        assert next(iter(source)).image.shape == (128, 128, 3)
    broken = Camera(*[garbage] * MAX_GARBAGE)
    with LiveSource(broken, "camera 0") as source, pytest.raises(SourceError, match="no pictures"):
        next(iter(source))
    assert broken.released.wait(2.0)


def test_old_frame_is_never_given() -> None:
    now_s = [0.0]

    def frames() -> Iterator[Frame]:
        yield Frame(noise(), 0.0, 0)  # lies about while the board is busy
        while now_s[0] < 5.0:
            time.sleep(0.005)
        yield Frame(noise(), 5.0, 1)

    with NewestFrames(frames(), "camera 0", clock=lambda: now_s[0]) as source:
        time.sleep(0.1)
        now_s[0] = 5.0
        assert next(iter(source)).sequence == 1


def test_waiting_for_a_frame_calls_back_and_what_that_raises_comes_out() -> None:
    calls = []

    def idle() -> None:
        calls.append(time.monotonic())
        if len(calls) == 3:
            raise ZeroDivisionError

    def never() -> Iterator[Frame]:
        time.sleep(3.0)
        yield Frame(noise(), 0.0, 0)

    source = NewestFrames(never(), "camera 0")
    source.when_idle(idle)
    with pytest.raises(ZeroDivisionError), source:
        next(iter(source))
    assert len(calls) == 3


def test_session_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    at = datetime(2026, 11, 1, 7, 30, tzinfo=UTC)
    pictures = [(flat(100), 5.0), (flat(120), 5.25), (flat(140), 6.0)]
    folder = tmp_path / "session"
    with RecordingSource(ArraySource(pictures), folder, wall=lambda: at) as recording:
        passed = list(recording)
    assert recording.frames_written == len(passed) == 3
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {f.stat().st_mode & 0o777 for f in folder.iterdir()} == {0o600}
    source = open_source(str(folder))
    assert isinstance(source, SessionSource)
    frames = list(source)
    assert [(f.captured_at_s, f.sequence) for f in frames] == [(5.0, 0), (5.25, 1), (6.0, 2)]
    assert source.wall() == at
    for frame, (picture, _) in zip(frames, pictures, strict=True):
        assert np.abs(frame.image.astype(int) - picture).max() < 16  # JPEG
    with pytest.raises(SourceError, match="session already"):
        RecordingSource(ArraySource([]), folder)


def test_recording_stops_at_its_limit_and_the_door_goes_on(tmp_path: Path) -> None:
    pictures = [(noise(), 0.1 * i) for i in range(20)]
    with RecordingSource(ArraySource(pictures), tmp_path / "s", max_mb=0.05) as recording:
        assert len(list(recording)) == 20
    assert 0 < recording.frames_written < 20
    assert len(list(SessionSource(tmp_path / "s"))) == recording.frames_written


def test_session_that_a_pulled_plug_cut_is_replayed_to_the_cut(tmp_path: Path) -> None:
    with RecordingSource(ArraySource([(flat(90), 0.0), (flat(95), 1.0)]), tmp_path / "s") as r:
        list(r)
    session = tmp_path / "s" / SESSION_FILE
    session.write_bytes(session.read_bytes()[:-20])
    assert len(list(SessionSource(tmp_path / "s"))) == 1


@pytest.mark.parametrize("picture", ["../secret.jpg", "/etc/passwd", "1.jpg", 3])
def test_session_names_no_file_outside_its_folder(tmp_path: Path, picture: object) -> None:
    line = {"picture": picture, "captured_at_s": 0.0, "sequence": 0, "at": "2026-01-01T00:00:00Z"}
    (tmp_path / SESSION_FILE).write_text((json.dumps(line) + "\n") * 2)
    with pytest.raises(SourceError, match="line 1 is damaged"):
        SessionSource(tmp_path)
