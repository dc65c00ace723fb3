"""Pictures of nobody known, at any depth of a folder: they are learnt from a teacher alone."""

from __future__ import annotations

import os
from pathlib import Path

from limen.images import PICTURE_SUFFIXES
from limen.train.prepare.listing import (
    LEADS_OUTSIDE,
    LINK_OUTSIDE,
    UNLISTABLE,
    ListedFolder,
    is_picture,
    printable_path,
    sorted_entries,
)
from limen.train.prepare.sources import FLAT, PrepareError, SourcePicture, leads_outside

LINKED_FOLDER = "linked-folder"


class FlatSource(ListedFolder):
    """All pictures in a folder and below. Links to folders are not followed: they may go round."""

    layout = FLAT
    labelled = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._list()
        if not self._pictures:
            raise PrepareError(
                f"{folder}: expected pictures, found none ending in "
                f"{', '.join(sorted(PICTURE_SUFFIXES))}"
            )

    def _list(self) -> None:
        waiting = [""]  # folders to list, relative: '' or 'A/B/'
        while waiting:
            below = waiting.pop()
            try:
                entries = sorted_entries(self._folder / below)
            except OSError as error:
                if not below:
                    raise
                self._leave_out(below.rstrip("/"), "", UNLISTABLE, str(error.strerror))
                continue
            folders = [f"{below}{e.name}/" for e in entries if self._take(e, below + e.name)]
            waiting += reversed(folders)

    def _take(self, entry: os.DirEntry[str], relative: str) -> bool:
        """Note what `entry` is; True where it is a folder that is to be listed in its turn."""
        if leads_outside(self._folder, entry):
            self._leave_out(relative, "", LINK_OUTSIDE, LEADS_OUTSIDE)
        elif entry.is_dir():
            if not entry.is_symlink():
                return not entry.name.startswith(".")
            self._leave_out(relative, "", LINKED_FOLDER, "links to folders are not followed")
        elif is_picture(entry.name):
            self._add(SourcePicture(relative, printable_path(relative), ""), entry.stat())
        elif not entry.name.startswith("."):
            self.other_files += 1
        return False
