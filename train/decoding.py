"""Decoding for a batch: a damaged picture is told, counted, and another one takes its place."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from limen.errors import PictureError
from limen.train.intake import NAMED, refuse_too_many
from limen.train.pictures import Pictures, PicturesError

log = logging.getLogger(__name__)


class SoundDecoder:
    """Decodes pictures; threads may share it.

    Which picture stands in depends on the pictures alone, so that a batch repeats: the next
    of the same identity (of nobody known, for one without), or the next of all where none of them
    can be read.
    """

    def __init__(self, pictures: Pictures, input_px: int) -> None:
        self.pictures = pictures
        self.input_px = input_px
        self._damaged: set[int] = set()
        self._lock = threading.Lock()
        self._unlabelled = np.flatnonzero(pictures.identity < 0)

    @property
    def damaged(self) -> int:
        """How many damaged pictures have been met."""
        return len(self._damaged)

    def decode(self, index: int) -> tuple[int, NDArray[np.uint8]]:
        """The picture's index or its substitute's, and its (input_px, input_px, 3) uint8 RGB crop.

        PicturesError where more than a tenth of all pictures proved damaged.
        """
        for candidate in self._candidates(index):
            if candidate in self._damaged:
                continue
            try:
                return candidate, self.pictures.decode(candidate, self.input_px)
            except PictureError as error:
                self._note(candidate, error)
        raise PicturesError(f"part '{self.pictures.part}': no picture can be read")

    def tell_total(self) -> None:
        """At a run's end, how many were skipped, where not all were named."""
        if self.damaged > NAMED:
            log.warning("%d damaged pictures were skipped in all", self.damaged)

    def _candidates(self, index: int) -> Iterator[int]:
        yield index
        identity = int(self.pictures.identity[index])
        group = self.pictures.by_identity[identity] if identity >= 0 else self._unlabelled
        place = int(np.searchsorted(group, index))
        yield from (int(member) for member in np.roll(group, -place)[1:])
        count = len(self.pictures)
        yield from ((index + step) % count for step in range(1, count))

    def _note(self, index: int, error: PictureError) -> None:
        with self._lock:
            if index in self._damaged:
                return
            self._damaged.add(index)
            count = len(self._damaged)
        if count <= NAMED:
            log.warning(
                "%s cannot be read and is skipped (%s)%s",
                self.pictures.paths[index],
                error,
                "; further ones are counted" if count == NAMED else "",
            )
        refuse_too_many(self.pictures, count, f"{self.pictures.paths[index]}: {error}")
