"""Pictures as a source: one file, or a folder in the order of names."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from limen.device.sources import ClosingSource
from limen.device.values import Frame
from limen.errors import PictureError, SourceError
from limen.images import PICTURE_SUFFIXES, read_picture

logger = logging.getLogger(__name__)

# Pictures carry no common clock; five a second is what a small board makes of a camera.
INTERVAL_S = 0.2


class FolderSource(ClosingSource):
    """The pictures of a folder, or a single one, `INTERVAL_S` apart.

    Files that cannot be read are skipped with a warning. SourceError, at once, where there is no
    picture file at all; while iterating, where none could be read.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float], interval_s: float = INTERVAL_S
    ) -> None:
        self._path = path
        self._interval_s = interval_s
        self._start_s = clock()
        self._files = _picture_files(path)

    def __iter__(self) -> Iterator[Frame]:
        sequence = 0
        for file in self._files:
            try:
                image = read_picture(file)
            except PictureError as error:
                logger.warning("skipped: %s", error)
                continue
            yield Frame(image, self._start_s + sequence * self._interval_s, sequence)
            sequence += 1
        if sequence == 0:
            raise SourceError(
                f"{self._path}: none of {len(self._files)} files could be read as a picture: "
                "copy them again"
            )


def _picture_files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            os.stat(path)
            return [path]
        files = sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")
        )
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    if not files:
        raise SourceError(
            f"{path}: no pictures in this folder; expected {', '.join(sorted(PICTURE_SUFFIXES))}"
        )
    return files
