"""The newest frame of a camera: a thread reads on, keeps one, and drops those nobody had time for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from limen.device.sources import ClosingSource
from limen.device.values import Frame
from limen.errors import SourceError

READ_TIMEOUT_S = 10.0
IDLE_S = 0.2
# A frame that lay about for longer shows the door as it was: it is dropped unseen.
MAX_AGE_S = 1.0
MIN_SIDE_PX, MAX_SIDE_PX = 32, 8192


class NewestFrames(ClosingSource):
    """Frames of `frames`, each the newest when it is asked for.

    frames: a blocking iterator that lets go of its camera when it is closed; a thread owns it.
    name: for messages, without secrets. SourceError where it ends, raises one, or gives nothing for
    `read_timeout_s`.
    """

    def __init__(
        self,
        frames: Iterator[Frame],
        name: str,
        clock: Callable[[], float] = time.monotonic,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._frames = frames
        self._name = name
        self._clock = clock
        self._read_timeout_s = read_timeout_s
        self._idle: Callable[[], None] | None = None
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._ended = False
        self._failure: Exception | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._read_on, name="limen-camera", daemon=True)
        self._thread.start()

    def when_idle(self, call: Callable[[], None]) -> None:
        self._idle = call

    def __iter__(self) -> Iterator[Frame]:
        while True:
            frame = self._wait()
            if frame is None:
                return
            if self._clock() - frame.captured_at_s <= MAX_AGE_S:
                yield frame

    def _wait(self) -> Frame | None:
        """The newest frame that nobody has seen; None once closed."""
        waited_s = 0.0
        while True:
            slice_s = min(IDLE_S, self._read_timeout_s - waited_s)
            with self._changed:
                arrived = self._changed.wait_for(
                    lambda: self._newest is not None or self._ended or self._closed, slice_s
                )
                frame, self._newest = self._newest, None
                if self._closed:
                    return None
            if frame is not None:
                return frame
            if arrived:
                if isinstance(self._failure, SourceError):
                    raise self._failure
                why = f" ({self._failure})" if self._failure else ""
                raise SourceError(f"{self._name} ended{why}: check its cable, power and network")
            waited_s += slice_s
            if waited_s >= self._read_timeout_s:
                raise SourceError(
                    f"{self._name} gave no picture for {self._read_timeout_s:g} s: check its "
                    "cable, power and network"
                )
            if self._idle is not None:
                self._idle()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # A read that hangs is left to its daemon thread; releasing under it would crash OpenCV.
        self._thread.join(timeout=1.0)

    def _read_on(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
                    if self._closed:
                        break
                    self._newest = frame
                    self._changed.notify_all()
        except Exception as error:  # told to whoever waits, as any other end
            self._failure = error
        finally:
            close = getattr(self._frames, "close", None)
            if close is not None:
                close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()


def is_picture(array: Any) -> bool:
    """Whether what a camera gave is a picture: (H, W) or (H, W, 3) uint8 of a likely size."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype == np.uint8
        and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3))
        and all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in array.shape[:2])
    )


def describe(array: Any) -> str:
    """What a camera gave in place of a picture."""
    return f"{getattr(array, 'shape', 'no array')} {getattr(array, 'dtype', '')}".strip()
