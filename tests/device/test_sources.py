from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from limen.device.opencv_source import LiveSource
from limen.device.picamera_source import PicameraSource
from limen.device.sources import ArraySource, FrameClock, is_path, open_source, redacted
from limen.errors import SourceError
from limen.images import encode_jpeg


def flat(red: int, green: int, blue: int) -> NDArray[np.uint8]:
    return np.full((48, 64, 3), (red, green, blue), np.uint8)


def write_video(path: Path, frames: int = 6, fps: float = 10.0) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(flat(20 * number, 0, 200))  # BGR
    writer.release()


def test_arrays_are_frames_at_their_own_times() -> None:
    with ArraySource([(flat(1, 2, 3), 5.0), (flat(4, 5, 6), 7.5)]) as source:
        frames = list(source)
    assert [(f.captured_at_s, f.sequence) for f in frames] == [(5.0, 0), (7.5, 1)]
    source.close()


def test_frame_clock_tells_the_time_of_the_last_frame() -> None:
    clock = FrameClock(ArraySource([(flat(1, 2, 3), 5.0), (flat(4, 5, 6), 7.5)]))
    assert clock() == 0.0
    assert [clock() for _ in clock] == [5.0, 7.5]


def test_video_gives_every_frame_in_rgb_at_the_videos_pace(tmp_path: Path) -> None:
    write_video(tmp_path / "door_001.avi")
    with open_source(str(tmp_path / "door_001.avi"), clock=lambda: 100.0) as source:
        frames = list(source)
    assert [f.sequence for f in frames] == list(range(6))
    np.testing.assert_allclose(
        [f.captured_at_s for f in frames], 100 + 0.1 * np.arange(6), atol=1e-6
    )
    assert frames[0].image.shape == (48, 64, 3)
    np.testing.assert_allclose(frames[0].image.mean((0, 1)), (200, 0, 0), atol=8)
    source.close()


def test_file_that_is_no_video_or_empty_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(SourceError, match="not a video"):
        open_source(str(tmp_path / "broken.mp4"))
    with pytest.raises(SourceError, match="no such file"):
        open_source(str(tmp_path / "missing.mp4"))
    with pytest.raises(SourceError, match="cannot be read"):
        open_source(str(tmp_path / "missing.jpg"))


def test_folder_is_read_in_order_and_a_bad_picture_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "b.jpg").write_bytes(encode_jpeg(flat(0, 200, 0)))
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(flat(200, 0, 0)))
    (tmp_path / "aa.jpg").write_bytes(encode_jpeg(flat(0, 0, 0))[:100])
    (tmp_path / "notes.txt").write_text("not a picture, and not tried")
    with caplog.at_level(logging.WARNING), open_source(str(tmp_path), lambda: 3.0) as source:
        frames = list(source)
    assert [int(f.image[24, 32].argmax()) for f in frames] == [0, 1]
    assert [f.captured_at_s for f in frames] == pytest.approx([3.0, 3.2])
    assert [f.sequence for f in frames] == [0, 1]
    assert "aa.jpg" in caplog.text
    assert "notes.txt" not in caplog.text


def test_folder_without_a_readable_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no pictures"):
        open_source(str(tmp_path))
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    with open_source(str(tmp_path)) as source, pytest.raises(SourceError, match="none of 1"):
        list(source)


def test_single_picture_is_one_frame(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(flat(200, 0, 0)))
    with open_source(str(tmp_path / "a.jpg")) as source:
        assert [f.image.shape for f in source] == [(48, 64, 3)]


class FakeCapture:
    """A camera that gives `pictures`, then hangs until released, or ends."""

    def __init__(self, pictures: int, ends: bool = True) -> None:
        self.left, self.ends, self.taken = pictures, ends, 0
        self.exhausted, self.released = threading.Event(), threading.Event()

    def read(self) -> tuple[bool, Any]:
        if self.left == 0:
            self.exhausted.set()
            if not self.ends:
                time.sleep(0.02)
                self.released.wait(0.2)
            return False, None
        self.left -= 1
        self.taken += 1
        return True, flat(0, 0, self.taken)

    def release(self) -> None:
        self.released.set()


def test_live_source_gives_the_newest_frame_and_drops_older_ones() -> None:
    capture = FakeCapture(50)
    with LiveSource(capture, "camera 0", lambda: 1.0) as source:
        assert capture.exhausted.wait(5)
        frames = iter(source)
        newest = next(frames)
        assert newest.sequence == 49
        assert newest.image[0, 0].tolist() == [50, 0, 0]
        with pytest.raises(SourceError, match="camera 0 ended"):
            next(frames)
    assert capture.released.is_set()
    source.close()


def test_live_source_that_hangs_is_an_error_not_a_wait_for_ever() -> None:
    capture = FakeCapture(0, ends=False)
    with (
        LiveSource(capture, "camera 0", read_timeout_s=0.01) as source,
        pytest.raises(SourceError, match=r"no picture for 0\.01 s"),
    ):
        next(iter(source))


def test_closed_live_source_ends_quietly() -> None:
    source = LiveSource(FakeCapture(3), "camera 0")
    source.close()
    assert list(source) == []


def test_missing_camera_says_what_to_do() -> None:
    with pytest.raises(SourceError, match=r"camera 97.*picamera2"):
        open_source("camera:97")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:secret@cam:554/live?pw=secret", "rtsp://cam:554/…"),
        ("rtsp://cam/user=admin_password=secret", "rtsp://cam/…"),
        ("rtsp://user:sec/ret@cam/live", "rtsp://…"),
        ("rtsp://user:se@secret@cam/live", "rtsp://cam/…"),
        ("http://user:secret@[::1]:80/", "http://[::1]:80/…"),
        ("rtsp://", "rtsp://…"),
    ],
)
def test_addresses_are_shown_without_secrets(address: str, shown: str) -> None:
    assert redacted(address) == shown


def test_password_of_a_camera_that_does_not_answer_is_told_to_nobody(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceError) as raised:
        open_source("rtsp://admin:s3cr3t@127.0.0.1:9/live?pass=s3cr3t")
    told = str(raised.value) + caplog.text + "".join(capfd.readouterr())
    assert "s3cr3t" not in told
    assert "rtsp://127.0.0.1:9/…" in str(raised.value)
    with pytest.raises(SourceError) as raised:
        open_source("ftp://admin:s3cr3t@cam/live")
    assert "s3cr3t" not in str(raised.value)


def test_names_of_sources() -> None:
    assert [is_path(t) for t in ("camera", "camera:1", "rtsp://x", "HTTP://x", "camera.mp4")] == [
        False,
        False,
        False,
        False,
        True,
    ]


class FakeRequest:
    def __init__(self, camera: FakePicamera) -> None:
        self.camera = camera

    def make_buffer(self, stream: str) -> NDArray[np.uint8]:
        assert stream == "main"
        return self.camera.buffer

    def release(self) -> None:
        self.camera.held -= 1


class FakePicamera:
    """Gives XBGR8888 with padded rows, whatever was asked for."""

    def __init__(self, pixel_format: str = "XBGR8888") -> None:
        self.pixel_format, self.held, self.calls = pixel_format, 0, list[str]()
        rows = np.zeros((48, 64 * 4 + 32), np.uint8)
        rows[:, : 64 * 4] = np.tile(np.array([10, 20, 30, 255], np.uint8), 64)
        self.buffer = rows.ravel()

    def create_video_configuration(self, **wanted: Any) -> dict[str, Any]:
        assert wanted["queue"] is False
        return wanted

    def configure(self, wanted: dict[str, Any]) -> None:
        self.calls.append("configure")

    def camera_configuration(self) -> dict[str, Any]:
        return {"main": {"format": self.pixel_format, "size": (64, 48), "stride": 288}}

    def capture_request(self, wait: float) -> FakeRequest:
        assert wait > 0  # a camera that hangs must not be waited for for ever
        assert self.held == 0
        self.held += 1
        return FakeRequest(self)

    def start(self) -> None:
        self.calls.append("start")

    def close(self) -> None:
        self.calls.append("close")


def test_picamera_frames_follow_the_format_that_the_camera_settled_on() -> None:
    camera = FakePicamera()
    with PicameraSource(0, lambda: 4.0, camera=camera) as source:
        frames = iter(source)
        first, second = next(frames), next(frames)
        assert camera.held == 0
    assert first.image.shape == (48, 64, 3)
    assert first.image[5, 5].tolist() == [10, 20, 30]
    assert (second.sequence, second.captured_at_s) == (1, 4.0)
    source.close()
    assert camera.calls == ["configure", "start", "close"]


def test_picamera_of_an_unknown_format_says_so_and_keeps_no_buffer() -> None:
    camera = FakePicamera("MJPEG")
    with (
        PicameraSource(0, camera=camera) as source,
        pytest.raises(SourceError, match="camera gives MJPEG"),
    ):
        next(iter(source))
    assert camera.held == 0


def test_picamera_that_does_not_start_is_closed_and_says_so() -> None:
    class Broken(FakePicamera):
        def start(self) -> None:
            raise RuntimeError("Failed to start camera")

    camera = Broken()
    with pytest.raises(SourceError, match="does not start"):
        PicameraSource(0, camera=camera)
    assert camera.calls[-1] == "close"
