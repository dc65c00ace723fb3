"""Pictures of nobody known, at any depth of a folder: they are learnt from a teacher alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from limen.images import PICTURE_SUFFIXES
from limen.train.prepare.folders import LINK_OUTSIDE, UNLISTABLE, is_picture, sorted_entries
from limen.train.prepare.sources import (
    FLAT,
    FolderReader,
    LeftOut,
    PrepareError,
    SourcePicture,
    leads_outside,
    printable,
)

LINKED_FOLDER = "linked-folder"


class FlatSource:
    """All pictures in a folder and below. Links to folders are not followed: they may go round."""

    layout = FLAT
    labelled = False
    aligned = False

    def __init__(self, folder: Path) -> None:
        self.left_out: list[LeftOut] = []
        self.other_files = 0
        self._folder = folder
        self._pictures: list[SourcePicture] = []
        self._stamps: list[tuple[int, int]] = []
        self._list()
        if not self._pictures:
            raise PrepareError(
                f"{folder}: expected pictures, found none ending in "
                f"{', '.join(sorted(PICTURE_SUFFIXES))}"
            )

    @property
    def reader(self) -> FolderReader:
        return FolderReader(self._folder)

    def __len__(self) -> int:
        return len(self._pictures)

    def pictures(self, start: int, stop: int) -> list[SourcePicture]:
        return self._pictures[start:stop]

    def fingerprint(self) -> Iterator[str]:
        for picture, (size, modified_ns) in zip(self._pictures, self._stamps, strict=True):
            yield f"{picture.name}\t{size}\t{modified_ns}"

    def _list(self) -> None:
        waiting = [""]  # folders to list, relative: '' or 'A/B/'
        while waiting:
            below = waiting.pop()
            try:
                entries = sorted_entries(self._folder / below)
            except OSError as error:
                if not below:
                    raise
                self._leave_out(below.rstrip("/"), UNLISTABLE, str(error.strerror))
                continue
            folders = [f"{below}{e.name}/" for e in entries if self._take(e, below + e.name)]
            waiting += reversed(folders)

    def _take(self, entry: os.DirEntry[str], relative: str) -> bool:
        """Note what `entry` is; True where it is a folder that is to be listed in its turn."""
        if leads_outside(self._folder, entry):
            self._leave_out(relative, LINK_OUTSIDE, "a link out of the folder")
        elif entry.is_dir():
            if not entry.is_symlink():
                return not entry.name.startswith(".")
            self._leave_out(relative, LINKED_FOLDER, "links to folders are not followed")
        elif is_picture(entry.name):
            found = entry.stat()
            self._pictures.append(SourcePicture(relative, _shown(relative), ""))
            self._stamps.append((found.st_size, found.st_mtime_ns))
        elif not entry.name.startswith("."):
            self.other_files += 1
        return False

    def _leave_out(self, name: str, reason: str, detail: str) -> None:
        self.left_out.append(LeftOut(_shown(name), "", reason, detail))


def _shown(relative: str) -> str:
    return "/".join(printable(part) for part in relative.split("/"))
