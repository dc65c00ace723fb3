"""Pictures in a folder for each identity: FOLDER/IDENTITY/PICTURE, as LFW has them too."""

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
    sorted_entries,
)
from limen.train.prepare.sources import (
    FOLDERS,
    PrepareError,
    SourcePicture,
    leads_outside,
    printable,
)

NO_IDENTITY = "no-identity"
NESTED = "nested-folder"


class FoldersSource(ListedFolder):
    """FOLDER/IDENTITY/PICTURE. Deeper folders are left out and told, never guessed at."""

    layout = FOLDERS
    labelled = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for entry in sorted_entries(folder):
            if leads_outside(folder, entry):
                self._leave_out(entry.name, "", LINK_OUTSIDE, LEADS_OUTSIDE)
            elif entry.is_dir():
                self._list_identity(entry)
            elif is_picture(entry.name):
                self._leave_out(entry.name, "", NO_IDENTITY, "beside the identities' folders")
            elif not entry.name.startswith("."):
                self.other_files += 1
        if not self._pictures:
            raise PrepareError(self._nothing_found())

    def _list_identity(self, folder: os.DirEntry[str]) -> None:
        if folder.name.startswith("."):
            return
        try:
            entries = sorted_entries(Path(folder.path))
        except OSError as error:
            self._leave_out(folder.name, folder.name, UNLISTABLE, str(error.strerror))
            return
        identity = printable(folder.name)
        for entry in entries:
            relative = f"{folder.name}/{entry.name}"
            if leads_outside(self._folder, entry):
                self._leave_out(relative, folder.name, LINK_OUTSIDE, LEADS_OUTSIDE)
            elif entry.is_dir():
                detail = "only pictures directly in an identity's folder are read"
                self._leave_out(relative, folder.name, NESTED, detail)
            elif is_picture(entry.name):
                name = f"{identity}/{printable(entry.name)}"
                self._add(SourcePicture(relative, name, identity), entry.stat())
            elif not entry.name.startswith("."):
                self.other_files += 1

    def _nothing_found(self) -> str:
        nested = next((row for row in self.left_out if row.reason == NESTED), None)
        found = (
            f"found folders inside folders ({nested.name}): name the folder that holds the identities"
            if nested
            else "found pictures without such folders: give each identity a folder of its own"
            if any(row.reason == NO_IDENTITY for row in self.left_out)
            else f"found none ending in {', '.join(sorted(PICTURE_SUFFIXES))}"
        )
        return f"{self._folder}: expected IDENTITY/PICTURE, or CelebA's or InsightFace's files; {found}"


def has_identity_folders(folder: Path) -> bool:
    """Whether a folder directly in `folder` holds a picture, or `folder` holds none itself."""
    entries = sorted_entries(folder)
    return any(
        any(is_picture(inner.name) for inner in sorted_entries(Path(entry.path)))
        for entry in entries
        if entry.is_dir()
        and not entry.name.startswith(".")
        and not leads_outside(folder, entry)
        and os.access(entry.path, os.R_OK | os.X_OK)
    ) or not any(is_picture(entry.name) for entry in entries)
