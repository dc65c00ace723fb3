"""Recorded sessions: the frames of a door as it saw them, with their times, to be replayed.

A session is a folder with `session.jsonl`, a line a frame, and the pictures. It shows people: it
is written only when asked for, readable by its owner alone, and within a limit.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from limen.device.events import utc_now
from limen.device.sources import SESSION_FILE, ClosingSource, FrameSource
from limen.device.values import Frame
from limen.errors import PictureError, SourceError
from limen.images import encode_jpeg, read_picture

logger = logging.getLogger(__name__)

MAX_SESSION_BYTES = 64 << 20
_PICTURE = re.compile(r"[0-9]{8}\.jpg")


class RecordingSource(ClosingSource):
    """A source whose frames are written down as they pass.

    max_mb: the recording stops there, and where the disk is full; the door goes on. SourceError, at
    once, where the folder cannot be made or already holds a session.
    """

    def __init__(
        self,
        source: FrameSource,
        folder: Path,
        *,
        max_mb: float = 500.0,
        wall: Callable[[], datetime] = utc_now,
    ) -> None:
        self._source = source
        self._folder = folder
        self._left_bytes = max_mb * 1e6
        self._wall = wall
        self.frames_written = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(
                folder / SESSION_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600
            )
        except FileExistsError as error:
            raise SourceError(f"{folder}: holds a session already: name another folder") from error
        except OSError as error:
            raise SourceError(
                f"{folder}: cannot be written ({error.strerror}): check the path and the disk"
            ) from error
        self._session: IO[str] | None = os.fdopen(descriptor, "w", encoding="utf-8")

    def when_idle(self, call: Callable[[], None]) -> None:
        self._source.when_idle(call)

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            self._write(frame)
            yield frame

    def _write(self, frame: Frame) -> None:
        if self._session is None:
            return
        name = f"{self.frames_written:08d}.jpg"
        picture = encode_jpeg(frame.image, 95)
        if self._left_bytes < len(picture):
            logger.warning("%s: the recording has reached its limit and stops", self._folder)
            self._end()
            return
        try:
            # The picture first: a line never names one that is not there.
            descriptor = os.open(
                self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600
            )
            with os.fdopen(descriptor, "wb") as file:
                file.write(picture)
            line = {
                "picture": name,
                "captured_at_s": frame.captured_at_s,
                "sequence": frame.sequence,
                "at": self._wall().astimezone(UTC).isoformat(timespec="milliseconds"),
            }
            self._session.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._session.flush()
        except OSError as error:
            logger.warning(
                "%s: the recording stops (%s); the door goes on", self._folder, error.strerror
            )
            self._end()
            return
        self._left_bytes -= len(picture)
        self.frames_written += 1

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.close()
            except OSError as error:
                logger.warning("%s: %s", self._folder, error.strerror)

    def close(self) -> None:
        self._end()
        self._source.close()


class SessionSource(ClosingSource):
    """The frames of a recorded session at their own times.

    A line that was cut short by a pulled plug ends it; a picture that is missing or damaged is
    skipped with a warning. SourceError where the folder holds no session, or not one frame.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines = _lines(folder / SESSION_FILE)
        self._now: datetime | None = None

    def wall(self) -> datetime:
        """When the last frame was recorded, UTC; now, before the first."""
        return self._now or utc_now()

    def __iter__(self) -> Iterator[Frame]:
        given = 0
        for line in self._lines:
            try:
                image = read_picture(self._folder / line["picture"])
            except PictureError as error:
                logger.warning("skipped: %s", error)
                continue
            captured_at_s = line["captured_at_s"]
            self._now = line["at"]
            yield Frame(image, captured_at_s, line["sequence"])
            given += 1
        if given == 0:
            raise SourceError(f"{self._folder}: the session holds no frame: record it again")


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > MAX_SESSION_BYTES:
            raise SourceError(f"{path}: larger than 64 MiB: no session")
        texts = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read: name the folder of a session") from error
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            told = json.loads(text)
            if not _PICTURE.fullmatch(told["picture"]):  # never a path out of the folder
                raise ValueError("picture")
            captured_at_s = float(told["captured_at_s"])
            if not math.isfinite(captured_at_s):
                raise ValueError("captured_at_s")
            lines.append(
                {
                    "picture": told["picture"],
                    "captured_at_s": captured_at_s,
                    "sequence": int(told["sequence"]),
                    "at": datetime.fromisoformat(told["at"]),
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(texts):
                break
            raise SourceError(f"{path}: line {number} is damaged: record it again") from error
    return lines
