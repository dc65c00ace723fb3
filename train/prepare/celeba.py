"""CelebA: flat pictures, identity_CelebA.txt, and the data set's own partition where it is there.

`identity_CelebA.txt` has a line 'PICTURE IDENTITY' for each picture, `list_eval_partition.txt` (or
`.csv`, as some mirrors have it) 'PICTURE PARTITION' with 0 for training, 1 for validation, 2 for
testing (Liu et al., ICCV 2015, and the files' own README).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from limen.images import PICTURE_SUFFIXES
from limen.train.pictures import CHOOSE, FIT, REPORT
from limen.train.prepare.listing import LEADS_OUTSIDE, LINK_OUTSIDE, ListedFolder
from limen.train.prepare.sources import (
    CELEBA,
    PrepareError,
    SourcePicture,
    leads_outside,
    printable,
)

IDENTITIES = "identity_CelebA.txt"
PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")
MAX_LIST_BYTES = 256 * 2**20
MISSING, UNLISTED = "missing", "no-identity"

_NOTE_FOLDERS = ("", "Anno", "Eval", "annotations")
_PICTURE_FOLDERS = (
    "",
    "img_align_celeba",
    "img_align_celeba/img_align_celeba",
    "img_align_celeba_png",
    "img_celeba",
    "Img/img_align_celeba",
    "Img/img_align_celeba_png",
    "Img/img_celeba",
    "images",
)
_PART_OF = {"0": FIT, "1": CHOOSE, "2": REPORT}


def find_identities(folder: Path) -> Path | None:
    """CelebA's list of identities in `folder` or where the original download has it, or None."""
    return _first_file(folder, (IDENTITIES,))


class CelebASource(ListedFolder):
    """CelebA as it was published, or as its mirrors lay it out."""

    layout = CELEBA
    labelled = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        identities = find_identities(folder)
        if identities is None:
            raise PrepareError(f"{folder}: expected {IDENTITIES} there or in Anno/, found none")
        identity_of = _read_list(identities, "an identity's number", r"[0-9]{1,12}")
        partition = _first_file(folder, PARTITIONS)
        part_of = _read_list(partition, "0, 1 or 2", "[012]") if partition else {}
        self._pictures_at = _picture_folder(folder, identity_of)
        present, refused = self._present()
        for name in sorted(identity_of):
            identity = f"celeba-{int(identity_of[name]):05d}"
            shown = printable(name)
            if name in present:
                part = _PART_OF[part_of[name]] if name in part_of else ""
                relative = f"{self._pictures_at}/{name}" if self._pictures_at else name
                self._add(SourcePicture(relative, shown, identity, part), present.pop(name))
            elif name in refused:
                self._leave_out(name, identity, LINK_OUTSIDE, LEADS_OUTSIDE)
            else:
                self._leave_out(name, identity, MISSING, f"in {IDENTITIES}, but not there")
        for name in sorted(present):
            self._leave_out(name, "", UNLISTED, f"{IDENTITIES} does not name it")
        if not self._pictures:
            raise PrepareError(f"{folder}: none of the pictures that {IDENTITIES} names is there")

    def fingerprint(self) -> Iterator[str]:
        for picture, (size, modified_ns) in zip(self._pictures, self._stamps, strict=True):
            yield f"{picture.name}\t{picture.identity}\t{picture.part}\t{size}\t{modified_ns}"

    def _present(self) -> tuple[dict[str, os.stat_result], set[str]]:
        """What each picture file is, by name, and the names of links out of the folder."""
        found: dict[str, os.stat_result] = {}
        refused: set[str] = set()
        with os.scandir(self._folder / self._pictures_at) as entries:
            for entry in entries:
                if os.path.splitext(entry.name)[1].lower() not in PICTURE_SUFFIXES:
                    self.other_files += not entry.name.startswith(".") and entry.is_file()
                elif leads_outside(self._folder, entry):
                    refused.add(entry.name)
                elif entry.is_file():
                    found[entry.name] = entry.stat()
        return found, refused


def _first_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    candidates = (folder / sub / name for sub in _NOTE_FOLDERS for name in names)
    return next((path for path in candidates if path.is_file()), None)


def _picture_folder(folder: Path, identity_of: dict[str, str]) -> str:
    """Where the pictures lie, relative to `folder`: the candidate that has most of the first ones."""
    first = sorted(identity_of)[:100]
    counts = {
        sub: sum((folder / sub / name).is_file() for name in first)
        for sub in _PICTURE_FOLDERS
        if (folder / sub).resolve().is_relative_to(folder)
    }
    best = max(counts, key=lambda sub: counts[sub])
    if counts[best] == 0:
        raise PrepareError(
            f"{folder}: none of {', '.join(first[:3])}… is there or in img_align_celeba/; "
            f"put the pictures that {IDENTITIES} names beside it"
        )
    return best


def _read_list(path: Path, what: str, pattern: str) -> dict[str, str]:
    """Lines of 'PICTURE VALUE'. PrepareError with the first line that is something else."""
    if path.stat().st_size > MAX_LIST_BYTES:
        raise PrepareError(f"{path}: larger than {MAX_LIST_BYTES // 2**20} MiB; not CelebA's list")
    values: dict[str, str] = {}
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            words = line.replace(",", " ").split()
            if not words or (number == 1 and words[0] == "image_id"):
                continue
            if len(words) == 1 and number <= 2 and words[0].isdigit():
                continue  # some of CelebA's lists begin with their own length
            if (
                len(words) != 2
                or not re.fullmatch(pattern, words[1])
                or "/" in words[0]
                or words[0].startswith(".")
                or "\0" in words[0]
            ):
                raise PrepareError(
                    f"{path}, line {number}: expected a picture's file name and {what}, found "
                    f"'{printable(line.strip())[:60]}'"
                )
            if values.setdefault(words[0], words[1]) != words[1]:
                raise PrepareError(
                    f"{path}, line {number}: '{printable(words[0])}' was there before with another value"
                )
    if not values:
        raise PrepareError(
            f"{path}: expected lines of a picture's file name and {what}, found none"
        )
    return values
