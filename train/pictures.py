"""Training pictures by identity, kept encoded in memory and decoded when they are needed.

Three layouts are read:

- *crop archives*: `crops-*.tar` with paths `…/IDENTITY/NAME`, `splits.csv` (identity, part,
  pictures), and, where a teacher is to be learnt from, `teachers.npz`;
- *a folder by class*: `FOLDER/IDENTITY/PICTURE`; its identities are split by a hash of their
  names, so that the same folder always gives the same parts;
- *WebDataset shards*, as `limen prepare` writes them: `limen.train.shards` reads them.

Encoded crops are small (155 MB for 64,000 WebP faces), so they stay in memory; decoded they would
not, and touching gigabytes at random costs more than decoding.
"""

from __future__ import annotations

import csv
import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.errors import LimenError
from limen.images import PICTURE_SUFFIXES, decode_picture, letterbox

FIT, CHOOSE, REPORT, COHORT = "fit", "choose", "report", "cohort"


class PicturesError(LimenError, ValueError):
    """A training folder cannot be used as it is."""


@dataclass(frozen=True)
class Pictures:
    """Encoded pictures of one part.

    encoded: n byte strings; identity: (n,) int64, 0..identities-1, or -1 for a picture of nobody
    known (`limen.train.unlabelled`); names: the identities' names;
    paths: n names, unique; teachers: arrays of (n, D) float32 by teacher name, unit norm.
    """

    part: str
    encoded: Sequence[bytes]
    paths: Sequence[str]
    identity: NDArray[np.int64]
    names: Sequence[str]
    teachers: Mapping[str, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.encoded)

    @cached_property
    def by_identity(self) -> list[NDArray[np.int64]]:
        """For each identity, the indices of its pictures."""
        labelled = np.flatnonzero(self.identity >= 0)
        order = labelled[np.argsort(self.identity[labelled], kind="stable")]
        counts = np.bincount(self.identity[labelled], minlength=len(self.names))
        return np.split(order, np.cumsum(counts)[:-1])

    def decode(self, index: int, input_px: int) -> NDArray[np.uint8]:
        """Picture `index` as (input_px, input_px, 3) uint8 RGB."""
        return letterbox(decode_picture(self.encoded[index]), input_px)


def open_pictures(folder: Path, part: str) -> Pictures:
    """Read `part` of `folder`. PicturesError where the folder has no usable pictures."""
    if not folder.is_dir():
        raise PicturesError(f"{folder}: expected a folder of pictures, found none")
    from limen.train.shards import find_shards, read_shards

    archives = sorted(folder.glob("crops-*.tar"))
    if shards := find_shards(folder):
        pictures = read_shards(folder, shards, part)
    elif archives:
        pictures = _from_archives(folder, archives, part)
    else:
        pictures = _from_class_folders(folder, part)
    if len(pictures.names) < 2:
        raise PicturesError(
            f"{folder}: part '{part}' holds {len(pictures.names)} identities; learning to tell "
            "people apart needs two or more, each in a folder of its own"
        )
    return pictures


def _from_archives(folder: Path, archives: Sequence[Path], part: str) -> Pictures:
    splits = folder / "splits.csv"
    if not splits.is_file():
        raise PicturesError(f"{folder}: expected splits.csv beside the crop archives, found none")
    with splits.open(newline="") as file:
        part_of = {row["identity"]: row["part"] for row in csv.DictReader(file)}
    parts = sorted(set(part_of.values()))
    if part not in parts:
        raise PicturesError(f"{splits}: no part '{part}'; it has {', '.join(parts)}")
    found: list[tuple[str, str, bytes]] = []
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in tar:
                identity = Path(member.name).parent.name
                if member.isfile() and part_of.get(identity) == part:
                    file_object = tar.extractfile(member)
                    assert file_object is not None
                    found.append((identity, member.name, file_object.read()))
    teachers_file = folder / "teachers.npz"
    teachers = read_teachers(teachers_file) if teachers_file.is_file() else {}
    return _assemble(part, found, teachers)


def _from_class_folders(folder: Path, part: str) -> Pictures:
    found: list[tuple[str, str, bytes]] = []
    for class_folder in sorted(p for p in folder.iterdir() if p.is_dir()):
        if part_by_hash(class_folder.name) != part:
            continue
        for path in sorted(class_folder.iterdir()):
            if path.suffix.lower() in PICTURE_SUFFIXES:
                relative = path.relative_to(folder).as_posix()
                found.append((class_folder.name, relative, path.read_bytes()))
    return _assemble(part, found, {})


def part_by_hash(identity: str) -> str:
    """The part of an identity in a folder without a split: 80 % fit, 10 % choose, 10 % report."""
    position = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") % 10
    return CHOOSE if position == 8 else REPORT if position == 9 else FIT


def read_teachers(path: Path) -> dict[str, tuple[dict[str, int], NDArray[np.float32]]]:
    """Each teacher's row by path, and its rows (n, D) as they are in the file."""
    teachers = {}
    with np.load(path, allow_pickle=False) as archive:
        rows = {name.decode(): row for row, name in enumerate(archive["path"])}
        for name in archive.files:
            values = archive[name]
            if values.ndim == 2 and np.issubdtype(values.dtype, np.floating):
                teachers[name] = (rows, values)
    return teachers


def _assemble(
    part: str,
    found: Sequence[tuple[str, str, bytes]],
    teachers: Mapping[str, tuple[dict[str, int], NDArray[np.float32]]],
) -> Pictures:
    names = sorted({identity for identity, _, _ in found})
    number = {name: index for index, name in enumerate(names)}
    paths = [path for _, path, _ in found]
    embeddings = {}
    for teacher, (rows, values) in teachers.items():
        if all(path in rows for path in paths):
            chosen = values[[rows[path] for path in paths]].astype(np.float32)
            norm = np.linalg.norm(chosen, axis=1, keepdims=True)
            embeddings[teacher] = chosen / np.maximum(norm, 1e-12)
    return Pictures(
        part=part,
        encoded=[content for _, _, content in found],
        paths=paths,
        identity=np.array([number[identity] for identity, _, _ in found], np.int64),
        names=names,
        teachers=embeddings,
    )
