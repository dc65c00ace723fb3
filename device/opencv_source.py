"""Frames through OpenCV: cameras of Video4Linux, network cameras, video files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.device.sources import ClosingSource, redacted
from limen.device.values import Frame
from limen.errors import SourceError

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
DEFAULT_FPS = 25.0
MAX_FPS = 1000.0


class Capture(Protocol):
    """The part of cv2.VideoCapture that is used."""

    def read(self) -> tuple[bool, Any]:
        """Whether there was a picture, and it, (H, W, 3) uint8 BGR."""
        ...

    def release(self) -> None:
        """Let go of the device."""
        ...


class LiveSource(ClosingSource):
    """The newest picture of a camera. A thread reads on and keeps one; older ones are dropped.

    name: for messages, without secrets. The thread owns `capture` and releases it.
    """

    def __init__(
        self,
        capture: Capture,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._capture = capture
        self._name = name
        self._clock = clock
        self._read_timeout_s = read_timeout_s
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._ended = False
        self._closed = False
        self._thread = threading.Thread(target=self._read_on, name="limen-camera", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        while True:
            with self._changed:
                arrived = self._changed.wait_for(
                    lambda: self._newest is not None or self._ended or self._closed,
                    self._read_timeout_s,
                )
                frame, self._newest = self._newest, None
                if self._closed:
                    return
            if frame is None:
                what = "ended" if arrived else f"gave no picture for {self._read_timeout_s:g} s"
                raise SourceError(f"{self._name} {what}: check its cable, power and network")
            yield frame

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # A read that hangs is left to its daemon thread; releasing under it would crash OpenCV.
        self._thread.join(timeout=2.0)

    def _read_on(self) -> None:
        sequence = 0
        try:
            while not self._closed:
                read, picture = self._capture.read()
                captured_at_s = self._clock()
                if not read or picture is None:
                    break
                frame = Frame(_rgb(picture), captured_at_s, sequence)
                sequence += 1
                with self._changed:
                    self._newest = frame
                    self._changed.notify_all()
        except cv2.error:
            pass  # told below, as any other end
        finally:
            self._capture.release()
            with self._changed:
                self._ended = True
                self._changed.notify_all()


class VideoSource(ClosingSource):
    """Every frame of a video file, dated by the file's own time from the clock's now.

    SourceError where the file cannot be opened or holds no frame.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._start_s = clock()
        if not os.access(path, os.R_OK):
            raise SourceError(f"{path}: cannot be read: check the path and its owner")
        # Named, so that OpenCV takes no number in a file's name for a sequence of pictures.
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(
                f"{path}: not a video that OpenCV reads: convert it to MP4 (H.264), or name a "
                "folder of pictures"
            )

    def __iter__(self) -> Iterator[Frame]:
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        interval_s = 1 / (fps if 0 < fps <= MAX_FPS else DEFAULT_FPS)
        sequence, captured_at_s = 0, self._start_s
        while True:
            read, picture = self._capture.read()
            if not read:
                break
            if sequence > 0:
                # Files without times of their own report 0, or stand still.
                told_s = self._start_s + self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                captured_at_s = told_s if told_s > captured_at_s else captured_at_s + interval_s
            yield Frame(_rgb(picture), captured_at_s, sequence)
            sequence += 1
        if sequence == 0:
            raise SourceError(f"{self._path}: the video holds no frame: copy it again")

    def close(self) -> None:
        self._capture.release()


def open_camera(number: int, clock: Callable[[], float] = time.monotonic) -> LiveSource:
    """The camera /dev/videoN. SourceError where there is none or it is in use."""
    name = f"camera {number} (/dev/video{number})"
    if not Path(f"/dev/video{number}").exists():
        raise SourceError(
            f"{name} is not there: plug it in, or name another with --source camera:N; "
            "a Raspberry Pi camera module needs picamera2 (apt install python3-picamera2)"
        )
    capture = cv2.VideoCapture(number, cv2.CAP_V4L2)
    return _live(capture, name, "is it in use, or is this user not in the group 'video'?", clock)


def open_stream(address: str, clock: Callable[[], float] = time.monotonic) -> LiveSource:
    """A network camera. SourceError, without the address's secrets, where it does not answer."""
    # FFmpeg by name: other backends of OpenCV print the whole address when they fail.
    open_ms, read_ms = int(OPEN_TIMEOUT_S * 1000), int(READ_TIMEOUT_S * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)
    remedy = "check the address, user and password, and that the camera is on"
    return _live(capture, redacted(address), remedy, clock)


def _live(
    capture: cv2.VideoCapture, name: str, remedy: str, clock: Callable[[], float]
) -> LiveSource:
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"{name} cannot be opened: {remedy}")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # where the driver has such a setting
    return LiveSource(capture, name, clock)


def _rgb(picture: Any) -> NDArray[np.uint8]:
    """What OpenCV read, (H, W) grey or (H, W, 3) BGR."""
    code = cv2.COLOR_GRAY2RGB if picture.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(picture, code), np.uint8)
