"""Frames of a Raspberry Pi's camera module, through picamera2 (apt install python3-picamera2)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from limen.device.pixels import rgb_from_buffer
from limen.device.sources import ClosingSource
from limen.device.values import Frame
from limen.errors import RuntimeUnavailableError, SourceError

SIZE_PX = (640, 480)


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
        camera: Any = None,
    ) -> None:
        self._name = f"camera {number}"
        self._clock = clock
        self._closed = False
        self._camera = camera if camera is not None else _open(number, self._name)
        try:
            # No queue: a queued frame would show the door as it was before the last decision.
            self._camera.configure(
                self._camera.create_video_configuration(
                    main={"size": size_px, "format": "RGB888"}, queue=False
                )
            )
            self._camera.start()
            # What was asked for is a wish; what is read is what the camera settled on.
            main = self._camera.camera_configuration()["main"]
            self._format = str(main["format"])
            self._width_px, self._height_px = (int(side) for side in main["size"])
            self._stride_bytes = int(main["stride"])
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
                request = self._camera.capture_request()
                captured_at_s = self._clock()
                try:
                    buffer = np.asarray(request.make_buffer("main"), np.uint8)
                finally:  # a request that is kept starves the camera of buffers
                    request.release()
            except Exception as error:  # as above
                raise SourceError(
                    f"{self._name} stopped ({error}): check its ribbon cable and power"
                ) from error
            image = rgb_from_buffer(
                buffer, self._format, self._width_px, self._height_px, self._stride_bytes
            )
            yield Frame(image, captured_at_s, sequence)
            sequence += 1

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                self._camera.stop()
            finally:
                self._camera.close()


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
