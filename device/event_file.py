"""Events in a file that is rotated, and that a full disk does not stop the door with."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from limen.device.events import Event, JsonLines

logger = logging.getLogger(__name__)


class EventFile:
    """Writes events to `path`, a line each; `path.1` is the newest of the old files.

    make: what writes the lines to a stream. max_bytes: size at which the file becomes `path.1`;
    kept: how many old ones stay. A file that cannot be written is told of once, and tried again
    with each event; the number of events that were lost is in the log when it can be.
    """

    def __init__(
        self,
        path: Path,
        make: Callable[[TextIO], JsonLines] = JsonLines,
        *,
        max_bytes: int = 10_000_000,
        kept: int = 5,
    ) -> None:
        self._path = path
        self._make = make
        self._max_bytes = max_bytes
        self._kept = kept
        self._stream: TextIO | None = None
        self._lines: JsonLines | None = None
        self._lost = 0

    def emit(self, event: Event) -> None:
        try:
            if self._lines is None or self._stream is None:
                self._open()
            elif self._stream.tell() >= self._max_bytes:
                self.close()
                self._rotate()
                self._open()
            if self._lines is not None:
                self._lines.emit(event)
        except OSError as error:
            if self._lost == 0:
                logger.warning(
                    "%s: events cannot be written (%s): free some space; the door goes on",
                    self._path,
                    error.strerror,
                )
            self._lost += 1
            self.close()
            return
        if self._lost:
            logger.warning("%s: %d events were lost", self._path, self._lost)
            self._lost = 0

    def close(self) -> None:
        """Close the file. It is opened again by the next event."""
        stream, self._stream, self._lines = self._stream, None, None
        if stream is not None:
            try:
                stream.close()
            except OSError:  # what could not be flushed is counted as lost already
                logger.debug("%s: closed with an unwritten rest", self._path)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode=0o640)
        _end_last_line(descriptor)
        self._stream = os.fdopen(descriptor, "a", encoding="utf-8")
        self._lines = self._make(self._stream)

    def _rotate(self) -> None:
        for number in range(self._kept, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = (
                self._path.with_name(f"{self._path.name}.{number - 1}")
                if number > 1
                else self._path
            )
            if newer.exists():
                os.replace(newer, older)


def _end_last_line(descriptor: int) -> None:
    """A line that a pulled plug or a full disk cut short must not swallow the next."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")
