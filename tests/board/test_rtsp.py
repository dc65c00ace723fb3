"""A network camera on loopback that stops, hangs, comes back, and comes back with another size."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from limen.device import opencv_source
from limen.device.reconnecting import ReconnectingSource
from limen.device.sources import open_source
from limen.device.values import Frame
from limen.errors import SourceError

SERVER = Path(__file__).with_name("rtsp_server.py")
SYSTEM_PYTHON = "/usr/bin/python3"
PATIENCE_S = 40.0


def lacking() -> str | None:
    if not Path(SYSTEM_PYTHON).exists():
        return f"no {SYSTEM_PYTHON}"
    done = subprocess.run(
        [SYSTEM_PYTHON, SERVER, "--check"], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    return (
        f"no RTSP server ({done.stderr.strip().splitlines()[-1]}): apt install python3-gi "
        "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,ugly}"
    )


@pytest.fixture(scope="module", autouse=True)
def _server_can_be_had() -> None:
    reason = lacking()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def camera(port: int, width: int = 320, height: int = 240) -> Iterator[subprocess.Popen[str]]:
    """A network camera that dies at the end of the block, without a word."""
    arguments = [SYSTEM_PYTHON, SERVER, str(port), str(width), str(height)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield server
        finally:
            server.kill()


def door_camera(port: int, lost: list[str]) -> ReconnectingSource:
    """As `limen run` opens it. The password must not come out anywhere."""
    address = f"rtsp://admin:s3cr3t@127.0.0.1:{port}/door"
    source = ReconnectingSource(
        partial(open_source, address), on_lost=lambda error: lost.append(str(error))
    )
    end_s = time.monotonic() + PATIENCE_S

    def give_up() -> None:
        if time.monotonic() > end_s:
            raise TimeoutError(f"no frame in {PATIENCE_S:g} s; lost: {lost}")

    source.when_idle(give_up)
    return source


def has_the_bars(frame: Frame) -> bool:
    """SMPTE bars, left to right: grey, yellow, cyan, green, magenta, red, blue."""
    height, width = frame.image.shape[:2]
    yellow, red, blue = (
        frame.image[height // 3, int(width * (bar + 0.5) / 7)].astype(int) for bar in (1, 5, 6)
    )
    return bool(
        min(yellow[0], yellow[1]) > yellow[2] + 80
        and red[0] > max(red[1], red[2]) + 80
        and blue[2] > max(blue[0], blue[1]) + 80
    )


def test_stream_is_read_in_true_colours_and_comes_back_after_the_server_died(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[str] = []
    with contextlib.ExitStack() as servers, door_camera(port, lost) as source:
        frames = iter(source)  # the server is not there yet: it is waited for
        first_server = servers.enter_context(contextlib.ExitStack())
        first_server.enter_context(camera(port))
        before = [next(frames) for _ in range(3)]
        assert all(has_the_bars(frame) for frame in before)
        first_server.close()
        killed_s = time.monotonic()
        with camera(port, 352, 288):
            after = next(f for f in frames if f.image.shape == (288, 352, 3))
        assert has_the_bars(after)
        assert after.sequence > before[-1].sequence
        assert after.captured_at_s > killed_s
        assert lost
        assert all(str(port) in told and "s3cr3t" not in told for told in lost)
    assert "s3cr3t" not in caplog.text


def test_server_that_hangs_is_given_up_and_read_again_when_it_goes_on(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opencv_source, "READ_TIMEOUT_S", 1.5)
    monkeypatch.setattr(opencv_source, "OPEN_TIMEOUT_S", 1.5)
    lost: list[str] = []
    with camera(port) as server, door_camera(port, lost) as source:
        frames = iter(source)
        last = next(frames)
        server.send_signal(signal.SIGSTOP)
        stopped_s = time.monotonic()
        source.when_lost(
            lambda error: (lost.append(str(error)), server.send_signal(signal.SIGCONT))
        )
        back = next(frame for frame in frames if frame.captured_at_s > stopped_s and lost)
        assert back.sequence > last.sequence
        assert "check" in lost[0]


def test_server_that_never_comes_is_one_sentence(port: int) -> None:
    with pytest.raises(SourceError, match=rf"rtsp://127\.0\.0\.1:{port}/… cannot be opened"):
        open_source(f"rtsp://admin:s3cr3t@127.0.0.1:{port}/door")
