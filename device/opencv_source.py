"""Frames through OpenCV: cameras of Video4Linux, network cameras, video files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.device.newest import NewestFrames, describe, is_picture
from limen.device.sources import ClosingSource, redacted
from limen.device.values import Frame
from limen.errors import SourceError

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
DEFAULT_FPS = 25.0
MAX_FPS = 1000.0
# A camera that starts up may give a few; one that gives nothing else is broken.
MAX_GARBAGE = 50


class Capture(Protocol):
    """The part of cv2.VideoCapture that is used."""

    def read(self) -> tuple[bool, Any]:
        """Whether there was a picture, and it, (H, W, 3) uint8 BGR."""
        ...

    def release(self) -> None:
        """Let go of the device."""
        ...


class LiveSource(NewestFrames):
    """The newest picture of a camera, read by a thread of its own.

    name: for messages, without secrets. The thread owns `capture` and releases it.
    """

    def __init__(
        self,
        capture: Capture,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        super().__init__(_captured(capture, name, clock), name, clock, read_timeout_s)


def _captured(capture: Capture, name: str, clock: Callable[[], float]) -> Iterator[Frame]:
    """A camera's pictures until it gives none; then it is released."""
    sequence, garbage = 0, 0
    try:
        while True:
            try:
                read, picture = capture.read()
            except cv2.error:
                return
            captured_at_s = clock()
            if not read or picture is None:
                return
            if not is_picture(picture):
                garbage += 1
                if garbage >= MAX_GARBAGE:
                    raise SourceError(
                        f"{name} gives no pictures but {describe(picture)}: unplug it and plug it "
                        "in again, or choose another format"
                    )
                continue
            garbage = 0
            yield Frame(_rgb(picture), captured_at_s, sequence)
            sequence += 1
    finally:
        capture.release()


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
