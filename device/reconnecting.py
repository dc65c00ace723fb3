"""A camera that comes back: opened again, ever more patiently, whenever it fails."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from limen.device.newest import IDLE_S
from limen.device.sources import ClosingSource, FrameSource
from limen.device.values import Frame
from limen.errors import SourceError

logger = logging.getLogger(__name__)

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
# A camera that ran for so long before it failed is tried again at once.
GOOD_RUN_S = 60.0


class ReconnectingSource(ClosingSource):
    """The frames of whatever `open_camera` opens, for ever; `sequence` goes on counting.

    A camera that is not there at first is waited for. open_camera: raises SourceError while there
    is none; other errors, such as a package that is not installed, go on to the caller. on_lost:
    called with the error each time a camera fails or cannot be opened.
    """

    def __init__(
        self,
        open_camera: Callable[[], FrameSource],
        *,
        on_lost: Callable[[SourceError], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._open_camera = open_camera
        self._on_lost = on_lost
        self._clock = clock
        self._sleep = sleep
        self._idle: Callable[[], None] | None = None
        self._camera: FrameSource | None = None
        self._closed = threading.Event()
        self._told = ""

    def when_idle(self, call: Callable[[], None]) -> None:
        self._idle = call

    def when_lost(self, call: Callable[[SourceError], None]) -> None:
        """Have `call` called with the error whenever the camera fails."""
        self._on_lost = call

    def __iter__(self) -> Iterator[Frame]:
        sequence, wait_s = 0, FIRST_WAIT_S
        while not self._closed.is_set():
            opened_s = self._clock()
            try:
                with self._opened() as camera:
                    self._camera = camera
                    if self._idle is not None:
                        camera.when_idle(self._idle)
                    for frame in camera:
                        if self._closed.is_set():
                            return
                        self._told = ""
                        yield replace(frame, sequence=sequence)
                        sequence += 1
                if self._closed.is_set():
                    return
                raise SourceError("the camera ended: check its cable, power and network")
            except SourceError as error:
                self._camera = None
                if self._closed.is_set():
                    return
                if self._clock() - opened_s >= GOOD_RUN_S:
                    wait_s = FIRST_WAIT_S
                self._tell(error, wait_s)
            self._wait(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _opened(self) -> FrameSource:
        """Open the camera. A thread waits for it: a network camera that does not answer takes ten
        seconds to fail, and the lock, the service manager and signals are attended to meanwhile.
        """
        opening = _Opening(self._open_camera)
        try:
            while not opening.finished.wait(IDLE_S):
                if self._closed.is_set():
                    raise SourceError("closed while the camera was opened")
                if self._idle is not None:
                    self._idle()
        except BaseException:
            opening.abandon()
            raise
        return opening.camera()

    def _tell(self, error: SourceError, wait_s: float) -> None:
        # The same failure every half minute would fill the log.
        level = logging.WARNING if str(error) != self._told else logging.DEBUG
        logger.log(level, "%s; trying again in %g s and on", error, wait_s)
        self._told = str(error)
        if self._on_lost is not None:
            self._on_lost(error)

    def _wait(self, seconds: float) -> None:
        end_s = self._clock() + seconds
        while not self._closed.is_set() and (left_s := end_s - self._clock()) > 0:
            if self._idle is not None:
                self._idle()
            self._sleep(min(IDLE_S, left_s))

    def close(self) -> None:
        self._closed.set()
        if self._camera is not None:
            self._camera.close()


class _Opening:
    """A camera that a thread opens; closed at once where nobody wants it any more."""

    def __init__(self, open_camera: Callable[[], FrameSource]) -> None:
        self.finished = threading.Event()
        self._open_camera = open_camera
        self._camera: FrameSource | None = None
        self._error: BaseException | None = None
        self._abandoned = False
        self._changing = threading.Lock()
        threading.Thread(target=self._open, name="limen-open-camera", daemon=True).start()

    def camera(self) -> FrameSource:
        """What was opened, or the error of it."""
        if self._camera is None:
            raise self._error or SourceError("the camera was not opened")
        return self._camera

    def abandon(self) -> None:
        """Nobody waits any more."""
        with self._changing:
            self._abandoned = True
            unwanted = self._camera
        if unwanted is not None:
            unwanted.close()

    def _open(self) -> None:
        try:
            camera = self._open_camera()
        except BaseException as error:  # told to whoever waits
            self._error = error
        else:
            with self._changing:
                self._camera = camera
                unwanted = self._abandoned
            if unwanted:
                camera.close()
        finally:
            self.finished.set()
