"""Where frames come from: what a source promises, and how one is named."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from limen.device.values import Frame
from limen.errors import SourceError
from limen.images import PICTURE_SUFFIXES

# A folder with this file is a recorded session.
SESSION_FILE = "session.jsonl"
_CAMERA = re.compile(r"camera(?::(\d{1,2}))?")
_STREAM = re.compile(r"(rtsp|rtsps|http|https)://", re.IGNORECASE)


class FrameSource(Protocol):
    """Gives frames, oldest first, until it ends or is closed. Closing twice is harmless.

    Iterating raises SourceError where a live source stops giving pictures. A live source gives the
    newest picture and drops those that nobody had time for: `sequence` then skips numbers.
    """

    def __iter__(self) -> Iterator[Frame]: ...

    def when_idle(self, call: Callable[[], None]) -> None:
        """Have `call` called a few times a second while a live source waits for a picture.

        What it raises comes out of the iteration.
        """
        ...

    def close(self) -> None:
        """Let go of the camera, file or connection."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class ClosingSource:
    """What sources share: `with` closes them. `close` and `when_idle` do nothing here."""

    def when_idle(self, call: Callable[[], None]) -> None:
        """A source that never waits is never idle."""

    def close(self) -> None:
        """Let go of what is held. Closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ArraySource(ClosingSource):
    """Frames from arrays at times of one's own: the source that ships for tests and simulations.

    pictures: (image (H, W, 3) uint8 RGB, captured_at_s) each.
    """

    def __init__(self, pictures: Iterable[tuple[NDArray[np.uint8], float]]) -> None:
        self._pictures = pictures

    def __iter__(self) -> Iterator[Frame]:
        for sequence, (image, captured_at_s) in enumerate(self._pictures):
            yield Frame(image, captured_at_s, sequence)


class FrameClock(ClosingSource):
    """A source that is also a clock: called, it says when its last frame was captured.

    For a simulated lock that plays a recording: its pulses then end in the recording's time.
    """

    def __init__(self, source: FrameSource, start_s: float = 0.0) -> None:
        self._source = source
        self._now_s = start_s

    def __call__(self) -> float:
        return self._now_s

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            self._now_s = frame.captured_at_s
            yield frame

    def when_idle(self, call: Callable[[], None]) -> None:
        self._source.when_idle(call)

    def close(self) -> None:
        self._source.close()


def is_path(text: str) -> bool:
    """Whether a source's name is a file or folder, rather than a camera or an address."""
    return not (_CAMERA.fullmatch(text) or _STREAM.match(text))


def is_live(text: str) -> bool:
    """Whether a source's name is a camera or a network camera: one that may come back."""
    return not is_path(text)


def open_source(text: str, clock: Callable[[], float] = time.monotonic) -> FrameSource:
    """Open the source that `text` names; SourceError with a remedy where it cannot be opened.

    'camera' or 'camera:N': picamera2 where installed, else Video4Linux; 'rtsp://…', 'http://…':
    a network camera; else a path: a folder of pictures, a recorded session, one picture, or a
    video. Files are played
    as fast as they are taken; their frames are dated from `clock`'s now in their own pace.
    """
    camera = _CAMERA.fullmatch(text)
    if camera:
        number = int(camera[1] or 0)
        if find_spec("picamera2") is not None:
            from limen.device.picamera_source import PicameraSource

            return PicameraSource(number, clock).newest()
        from limen.device.opencv_source import open_camera

        return open_camera(number, clock)
    if _STREAM.match(text):
        from limen.device.opencv_source import open_stream

        return open_stream(text, clock)
    if "://" in text:
        # Not repeated: it may hold a password all the same.
        raise SourceError("this kind of address is not known; expected rtsp://… or http://…")
    path = Path(text).expanduser()
    if (path / SESSION_FILE).is_file():
        from limen.device.recording import SessionSource

        return SessionSource(path)
    if path.is_dir() or path.suffix.lower() in PICTURE_SUFFIXES:
        from limen.device.folder_source import FolderSource

        return FolderSource(path, clock)
    if not path.exists():
        raise SourceError(
            f"{path}: no such file or folder: check the path, or use 'camera' or 'rtsp://…'"
        )
    from limen.device.opencv_source import VideoSource

    return VideoSource(path, clock)


def redacted(address: str) -> str:
    """An address without what may be secret: scheme and host only, or less where that is unsure.

    Passwords also hide in paths and queries of network cameras, so both go.
    """
    scheme, _, rest = address.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    if "@" in rest[len(authority) :] or not host:
        return f"{scheme}://…"  # a '/' in a password puts the host out of sight
    return f"{scheme}://{host}/…"
