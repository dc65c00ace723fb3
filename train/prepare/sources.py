"""What a source of pictures promises, and which layout a folder has.

A source lists its pictures once, in an order that depends on nothing but the folder. Its reader is
small, is sent to every worker process, and gives the bytes of one picture at a time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from limen.errors import LimenError, PictureError
from limen.images import MAX_FILE_BYTES

AUTO, FOLDERS, LFW, CELEBA, RECORDIO, FLAT = (
    "auto",
    "folders",
    "lfw",
    "celeba",
    "recordio",
    "flat",
)
LAYOUTS = (AUTO, FOLDERS, LFW, CELEBA, RECORDIO, FLAT)


class PrepareError(LimenError, ValueError):
    """Pictures cannot be prepared: the folder, an option, the disk or a worker is in the way."""


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """A picture as its source lists it.

    locator: where the reader finds it (a path relative to the folder, or a byte offset);
    name: the same for people, printable and unique; identity: printable, the label it came with,
    '' where nobody is known; part: 'fit', 'choose' or 'report' where the data set has a partition of its own, else ''.
    """

    locator: str | int
    name: str
    identity: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that was met while listing, and is no picture that could be prepared."""

    name: str
    identity: str
    reason: str
    detail: str


class Reader(Protocol):
    """Gives a picture's bytes. Picklable; used in a worker process."""

    def read(self, picture: SourcePicture) -> bytes:
        """The encoded picture, at most MAX_FILE_BYTES. PictureError where it cannot be had."""
        ...


class Source(Protocol):
    """A data set whose pictures have been listed."""

    layout: str
    labelled: bool  # each picture has an identity
    aligned: bool  # its pictures are face crops already, on the usual 112 x 112 template
    other_files: int  # that no picture's suffix or list names

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """What was met and cannot be prepared."""
        ...

    @property
    def reader(self) -> Reader:
        """What worker processes read with."""
        ...

    def __len__(self) -> int: ...

    def pictures(self, start: int, stop: int) -> list[SourcePicture]:
        """The pictures start..stop-1, in the source's own order."""
        ...

    def fingerprint(self) -> Iterator[str]:
        """Lines that change when a picture or label is added, removed or changed."""
        ...


@dataclass(frozen=True, slots=True)
class FolderReader:
    """Reads regular files inside `folder`, and nothing that a link leads to outside of it."""

    folder: Path

    def read(self, picture: SourcePicture) -> bytes:
        return read_inside(self.folder, str(picture.locator))


def read_inside(folder: Path, relative: str) -> bytes:
    """The bytes of `folder`/`relative`. PictureError for what is no file of bounded size in there."""
    path = folder / relative
    try:
        # Listing has looked; a link may have taken the file's place since.
        if not path.resolve(strict=True).is_relative_to(folder):
            raise PictureError("a link out of the folder")
        # A fifo must not block: whoever reads it looks at its kind first.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PictureError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise PictureError(f"cannot be read ({type(error).__name__})") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PictureError("expected a file, found something else")
        if found.st_size > MAX_FILE_BYTES:
            raise PictureError(
                f"{found.st_size / 2**20:.0f} MiB is more than the {MAX_FILE_BYTES // 2**20} MiB "
                "that are read"
            )
        try:
            return file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise PictureError(f"cannot be read ({error.strerror})") from error


def leads_outside(folder: Path, entry: os.DirEntry[str]) -> bool:
    """Whether a directory entry is a link whose end lies outside of `folder` (resolved), or a loop."""
    if not entry.is_symlink():
        return False
    try:
        return not Path(entry.path).resolve(strict=True).is_relative_to(folder)
    except (OSError, RuntimeError):
        return True


def printable(name: str) -> str:
    """`name` in characters that any text file, archive or terminal takes; different stay different.

    Separators, control characters, bytes that are no UTF-8, and the backslash itself are escaped,
    and so is the first character of '.' and '..', which would be other folders.
    """
    shown = "".join(c if c.isprintable() and c not in "/\\" else _escaped(c) for c in name)
    return _escaped(shown[0]) + shown[1:] if shown in {".", ".."} else shown


def _escaped(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):06x}"


def open_source(folder: Path, layout: str = AUTO, *, unlabelled: bool = False) -> Source:
    """List the pictures of `folder`.

    layout: one of LAYOUTS; 'auto' takes InsightFace's RecordIO where there is a `.rec` file, CelebA
    where there is identity_CelebA.txt, a folder for each identity, as LFW has it, where there are
    folders with pictures, and else the pictures themselves, of nobody known. unlabelled: the
    folders say nothing about who it is; pictures at any depth are taken.
    PrepareError where the folder is of no such layout, with what was found in its place.
    """
    from limen.train.prepare.celeba import CelebASource, find_identities
    from limen.train.prepare.flat import FlatSource
    from limen.train.prepare.folders import FoldersSource, has_identity_folders
    from limen.train.prepare.recordio import RecordSource, find_record_file

    if layout not in LAYOUTS:
        raise PrepareError(f"unknown layout '{layout}'; expected one of {', '.join(LAYOUTS)}")
    if not folder.is_dir():
        raise PrepareError(f"{folder}: expected a folder of pictures, found none; check the path")
    folder = folder.resolve()
    try:
        if layout == RECORDIO or (layout == AUTO and find_record_file(folder) is not None):
            return RecordSource(folder)
        if layout == FLAT or (layout == AUTO and unlabelled):
            return FlatSource(folder)
        if layout == CELEBA or (layout == AUTO and find_identities(folder) is not None):
            return CelebASource(folder)
        if layout == AUTO and not has_identity_folders(folder):
            return FlatSource(folder)
        return FoldersSource(folder)
    except OSError as error:
        raise PrepareError(
            f"{folder}: cannot be listed ({error.strerror}); check its rights"
        ) from error
