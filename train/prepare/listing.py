"""What every folder of picture files shares, whatever its layout: the list, its stamps, the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from limen.images import PICTURE_SUFFIXES
from limen.train.prepare.sources import FolderReader, LeftOut, SourcePicture, printable

LINK_OUTSIDE = "link-outside"
UNLISTABLE = "unreadable"
LEADS_OUTSIDE = "a link out of the folder"


class ListedFolder:
    """Pictures below a folder; the layouts fill it in, each by its own rules."""

    aligned = False

    def __init__(self, folder: Path) -> None:
        self.left_out: list[LeftOut] = []
        self.other_files = 0
        self._folder = folder
        self._pictures: list[SourcePicture] = []
        self._stamps: list[tuple[int, int]] = []

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

    def _add(self, picture: SourcePicture, found: os.stat_result) -> None:
        self._pictures.append(picture)
        self._stamps.append((found.st_size, found.st_mtime_ns))

    def _leave_out(self, relative: str, identity: str, reason: str, detail: str) -> None:
        self.left_out.append(LeftOut(printable_path(relative), printable(identity), reason, detail))


def printable_path(relative: str) -> str:
    """A relative path with every part `printable`."""
    return "/".join(printable(part) for part in relative.split("/"))


def is_picture(name: str) -> bool:
    # '._NAME.jpg' is what macOS leaves beside a picture on a foreign disk.
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


def sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)
