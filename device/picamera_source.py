"""Frames of a Raspberry Pi's camera module, through picamera2 (apt install python3-picamera2)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.device.newest import NewestFrames
from limen.device.pixels import rgb_from_buffer
from limen.device.sources import ClosingSource
from limen.device.values import Frame
from limen.errors import RuntimeUnavailableError, SourceError

# Embedding takes its crop from the large picture, finding runs on the small one.
SIZE_PX = (1280, 960)
SMALL_PX = (640, 480)
# Less than `newest.READ_TIMEOUT_S`: whoever waits for pictures must find the camera let go of.
PICTURE_TIMEOUT_S = 5.0


class PicameraSource(ClosingSource):
    """The frames of camera `number`, each captured after it was asked for.

    camera: a Picamera2 to use instead of opening one. RuntimeUnavailableError without picamera2,
    SourceError where the camera does not start.
    """

    def __init__(
        self,
        number: int = 0,
        clock: Callable[[], float] = time.monotonic,
        size_px: tuple[int, int] = SIZE_PX,
        small_px: tuple[int, int] | None = SMALL_PX,
        camera: Any = None,
    ) -> None:
        self._name = f"camera {number}"
        self._clock = clock
        self._closed = False
        self._camera = camera if camera is not None else _open(number, self._name)
        try:
            # No queue: a queued frame would show the door as it was before the last decision.
            # Boards before the Pi 5 give the small stream as YUV420 only.
            small = {"lores": {"size": small_px, "format": "YUV420"}} if small_px else {}
            self._camera.configure(
                self._camera.create_video_configuration(
                    main={"size": size_px, "format": "RGB888"}, queue=False, **small
                )
            )
            self._camera.start()
            # What was asked for is a wish; what is read is what the camera settled on.
            settled = self._camera.camera_configuration()
            self._main = _Stream.settled("main", settled["main"])
            lores = settled.get("lores") if small_px else None
            self._small = _Stream.settled("lores", lores) if lores else None
        except Exception as error:  # libcamera raises RuntimeError, KeyError and types of its own
            with contextlib.suppress(Exception):  # the first failure is the one to tell
                self.close()
            raise SourceError(
                f"{self._name} does not start ({error}): check its ribbon cable, and that no other "
                "program uses it"
            ) from error

    def __iter__(self) -> Iterator[Frame]:
        sequence = 0
        while not self._closed:
            try:
                request = self._camera.capture_request(wait=PICTURE_TIMEOUT_S)
                captured_at_s = self._clock()
                with _held(request):
                    image = self._main.picture(request)
                    small = self._small.picture(request) if self._small else None
            except SourceError:
                raise
            except TimeoutError as error:
                raise SourceError(
                    f"{self._name} gave no picture for {PICTURE_TIMEOUT_S:g} s: check its ribbon "
                    "cable and power"
                ) from error
            except Exception as error:  # as above
                raise SourceError(
                    f"{self._name} stopped ({error}): check its ribbon cable and power"
                ) from error
            yield Frame(image, captured_at_s, sequence, small)
            sequence += 1

    def newest(self) -> NewestFrames:
        """The same frames by a thread of their own, which a door that waits cannot hang on."""
        return NewestFrames(self._until_closed(), self._name, self._clock)

    def _until_closed(self) -> Iterator[Frame]:
        with self:
            yield from self

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            # It stops the camera itself. To ask for that first would wait, on a camera that hangs,
            # behind the picture that never comes.
            self._camera.close()


@contextlib.contextmanager
def _held(request: Any) -> Iterator[None]:
    """A captured request's lifetime: one that is kept starves the camera of buffers."""
    try:
        yield
    finally:
        request.release()


@dataclass(frozen=True, slots=True)
class _Stream:
    """One of the camera's streams as it settled on it."""

    name: str
    pixel_format: str
    width_px: int
    height_px: int
    stride_bytes: int

    @classmethod
    def settled(cls, name: str, told: Any) -> _Stream:
        width_px, height_px = (int(side) for side in told["size"])
        return cls(name, str(told["format"]), width_px, height_px, int(told["stride"]))

    def picture(self, request: Any) -> NDArray[np.uint8]:
        """(height_px, width_px, 3) uint8 RGB, a copy."""
        buffer = np.asarray(request.make_buffer(self.name), np.uint8)
        return rgb_from_buffer(
            buffer, self.pixel_format, self.width_px, self.height_px, self.stride_bytes
        )


def _open(number: int, name: str) -> Any:
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise RuntimeUnavailableError(
            "picamera2 cannot be imported: apt install python3-picamera2, in an environment made "
            "with --system-site-packages"
        ) from error
    try:
        return Picamera2(number)
    except Exception as error:  # IndexError for a missing camera, RuntimeError for a busy one
        raise SourceError(
            f"{name} is not there or is in use ({error}): check its ribbon cable, and "
            "'rpicam-hello --list-cameras'"
        ) from error
