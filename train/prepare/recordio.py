"""InsightFace's data sets: `train.rec` with `train.idx`, in MXNet's RecordIO.

A record is two little-endian uint32, the magic number and a word of 3 bits kind and 29 bits length,
then the content, filled up to four bytes (dmlc-core, recordio.h). A content that holds the magic
number itself is split there: kinds 1, 2 and 3 are the first, middle and last piece, 0 is whole.
The content begins with a header 'IfQQ': flag, label, two ids; with flag > 0, that many float32
follow and are the label (mxnet.recordio). Record 0 of InsightFace's sets holds the range of keys
whose records stand for identities, and each of those the range of its pictures' keys.

Every number is checked against the file's own size before it is believed.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from limen.errors import PictureError
from limen.images import MAX_FILE_BYTES
from limen.train.prepare.sources import RECORDIO, LeftOut, PrepareError, SourcePicture

MAGIC = 0xCED7230A
MAX_KEYS = 200_000_000
MAX_LABELS = 64
_WORDS = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
WRONG_LABEL = "wrong-label"


def find_record_file(folder: Path) -> Path | None:
    """`train.rec` in `folder`, or the only other `.rec`; None where there is none.

    PrepareError where there are several, none of them train.rec.
    """
    found = sorted(path for path in folder.glob("*.rec") if path.is_file())
    named = [path for path in found if path.name == "train.rec"]
    if len(found) > 1 and not named:
        raise PrepareError(
            f"{folder}: expected train.rec, found {', '.join(p.name for p in found[:5])}; "
            "put the one to prepare into a folder of its own, with its .idx"
        )
    return next(iter(named or found), None)


class RecordReader:
    """Reads records by their offset. Picklable: the file is opened where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._size = 0

    def __reduce__(self) -> tuple[type[RecordReader], tuple[Path]]:
        return RecordReader, (self.path,)

    def read(self, picture: SourcePicture) -> bytes:
        labels, content = self.record(int(picture.locator))
        own = identity_name(labels)
        if own != picture.identity:
            raise PictureError(f"its record says {own}, its identity's range {picture.identity}")
        return content

    def record(self, offset: int, *, header_only: bool = False) -> tuple[tuple[float, ...], bytes]:
        """The labels and the picture of the record at `offset`; no picture for `header_only`.

        PictureError where it is cut short, has a length the file cannot hold, or is no record.
        """
        most = _HEADER.size + 4 * MAX_LABELS if header_only else MAX_FILE_BYTES
        content = self._content(offset, most, cut=header_only)
        if len(content) < _HEADER.size:
            raise PictureError(f"the record at byte {offset} is shorter than its header")
        flag, label, _, _ = _HEADER.unpack_from(content)
        if flag > MAX_LABELS or _HEADER.size + 4 * flag > len(content):
            raise PictureError(f"the record at byte {offset} claims {flag} labels; it is damaged")
        end = _HEADER.size + 4 * flag
        labels = struct.unpack_from(f"<{flag}f", content, _HEADER.size) if flag else (label,)
        return labels, b"" if header_only else content[end:]

    def _content(self, offset: int, most: int, *, cut: bool) -> bytes:
        file = self._opened()
        pieces: list[bytes] = []
        total = 0
        while True:
            if not 0 <= offset <= self._size - _WORDS.size:
                raise PictureError(f"a record at byte {offset} would lie behind the file's end")
            file.seek(offset)
            magic, word = _WORDS.unpack(file.read(_WORDS.size))
            kind, length = word >> 29, word & (1 << 29) - 1
            if magic != MAGIC:
                raise PictureError(
                    f"no record begins at byte {offset}; the .idx is of another file"
                )
            if kind not in ((_MIDDLE, _LAST) if pieces else (_WHOLE, _FIRST)):
                raise PictureError(f"the record at byte {offset} is a piece out of its order")
            if length > self._size - offset - _WORDS.size:
                raise PictureError(f"the record at byte {offset} is cut short")
            if total + length + 4 > most and not cut:
                raise PictureError(
                    f"the record at byte {offset} has more than the {most // 2**20} MiB that are read"
                )
            pieces.append(file.read(min(length, most)))
            total += length + 4
            if kind in (_WHOLE, _LAST) or (cut and total >= most):
                return _WORDS.pack(MAGIC, 0)[:4].join(pieces)
            offset += _WORDS.size + (length + 3) // 4 * 4

    def _opened(self) -> BinaryIO:
        if self._file is None:
            try:
                self._file = self.path.open("rb")
                self._size = os.fstat(self._file.fileno()).st_size
            except OSError as error:
                raise PictureError(f"{self.path.name} cannot be read ({error.strerror})") from error
        return self._file


def identity_name(labels: tuple[float, ...]) -> str:
    """A record's first label as an identity's name. PictureError unless it is a whole number.

    A float32 holds whole numbers exactly up to 2**24; more identities than that were never sold.
    """
    value = labels[0] if labels else math.nan
    if not (math.isfinite(value) and value == int(value) and 0 <= value <= 1 << 24):
        raise PictureError(f"its label {value:g} is no identity's number")
    return f"id-{int(value):07d}"


class RecordSource:
    """A `.rec` with its `.idx`. Its pictures are aligned crops already."""

    layout = RECORDIO
    labelled = True
    aligned = True
    other_files = 0

    def __init__(self, folder: Path) -> None:
        path = find_record_file(folder)
        if path is None:
            raise PrepareError(f"{folder}: expected train.rec and train.idx, found no .rec file")
        if not path.with_suffix(".idx").is_file():
            raise PrepareError(
                f"{path}: expected {path.stem}.idx beside it, found none; copy both from the data set"
            )
        self._path = path
        self.left_out: list[LeftOut] = []
        self._reader = RecordReader(path)
        keys, offsets = _read_index(path.with_suffix(".idx"), path.stat().st_size)
        self._list(keys, offsets)
        if not len(self._keys):
            first = self.left_out[0].detail if self.left_out else "it holds identities alone"
            raise PrepareError(f"{path}: no picture's record can be read; the first: {first}")

    @property
    def reader(self) -> RecordReader:
        return self._reader

    def __len__(self) -> int:
        return len(self._keys)

    def pictures(self, start: int, stop: int) -> list[SourcePicture]:
        rows = zip(
            self._keys[start:stop].tolist(),
            self._offsets[start:stop].tolist(),
            self._labels[start:stop].tolist(),
            strict=True,
        )
        return [
            SourcePicture(offset, f"{self._path.name}#{key}", identity_name((float(label),)))
            for key, offset, label in rows
        ]

    def fingerprint(self) -> Iterator[str]:
        status = self._path.stat()
        yield f"{self._path.name}\t{status.st_size}\t{status.st_mtime_ns}"
        for values in (self._keys, self._offsets, self._labels):
            yield hashlib.sha256(values.tobytes()).hexdigest()

    def _list(self, keys: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        """Set the pictures' keys, offsets and labels."""
        begin, end = self._identity_keys(keys, offsets)
        is_picture = (keys > 0) & (keys < begin) if begin else keys >= 0
        picture_keys, picture_offsets = keys[is_picture], offsets[is_picture]
        labels = np.full(len(picture_keys), -1, np.int64)
        for row in np.flatnonzero((keys >= begin) & (keys < end)) if begin else ():
            self._label_range(
                int(keys[row]), int(offsets[row]), picture_keys, picture_offsets, labels
            )
        # Without a range of its own, a picture's identity is in its own record alone.
        for row in np.flatnonzero(labels < 0):
            labels[row] = self._own_label(int(picture_keys[row]), int(picture_offsets[row]))
        known = labels >= 0
        self._keys, self._offsets = picture_keys[known], picture_offsets[known]
        self._labels = labels[known]

    def _identity_keys(
        self, keys: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> tuple[int, int]:
        """The half-open range of keys that stand for identities; (0, 0) where record 0 has none."""
        if keys[0] != 0:
            return 0, 0
        try:
            labels, content = self._reader.record(int(offsets[0]))
        except PictureError as error:
            raise PrepareError(f"{self._path}: its first record: {error}") from error
        if content or len(labels) < 2:
            return 0, 0  # a plain list of pictures, without InsightFace's header
        if not all(math.isfinite(v) and 1 <= v <= MAX_KEYS for v in labels[:2]):
            raise PrepareError(
                f"{self._path}: record 0 names identities {labels[:2]}; it is damaged"
            )
        return int(labels[0]), int(labels[1])

    def _label_range(
        self,
        key: int,
        offset: int,
        keys: NDArray[np.int64],
        offsets: NDArray[np.int64],
        labels: NDArray[np.int64],
    ) -> None:
        """Give the pictures of identity record `key` the label of the first one that has any."""
        try:
            bounds, _ = self._reader.record(offset, header_only=True)
            if len(bounds) < 2 or not all(math.isfinite(v) for v in bounds[:2]):
                raise PictureError("expected the range of its pictures")
        except PictureError:
            return  # then each picture's own record tells
        start, stop = np.searchsorted(keys, [max(0, int(bounds[0])), max(0, int(bounds[1]))])
        # A few are asked, so that ranges that overlap cannot make the listing quadratic.
        for row in range(int(start), min(int(stop), int(start) + 8)):
            try:
                own, _ = self._reader.record(int(offsets[row]), header_only=True)
                name = identity_name(own)
            except PictureError:
                continue
            labels[start:stop] = int(name.removeprefix("id-"))
            return

    def _own_label(self, key: int, offset: int) -> int:
        try:
            labels, _ = self._reader.record(offset, header_only=True)
            return int(identity_name(labels).removeprefix("id-"))
        except PictureError as error:
            self.left_out.append(LeftOut(f"{self._path.name}#{key}", "", WRONG_LABEL, str(error)))
            return -1


def _read_index(path: Path, record_bytes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys and offsets, each (n,) int64, by rising key. PrepareError with the line that is wrong."""
    keys: list[int] = []
    offsets: list[int] = []
    with path.open("rb") as file:
        for number in range(1, MAX_KEYS + 2):
            line = file.readline(64)
            if not line:
                break
            words = line.split()
            if len(words) != 2 or not (words[0].isdigit() and words[1].isdigit()):
                raise PrepareError(
                    f"{path}, line {number}: expected a key and a byte offset, found {line[:40]!r}"
                )
            key, offset = int(words[0]), int(words[1])
            if key > MAX_KEYS or offset >= record_bytes:
                raise PrepareError(
                    f"{path}, line {number}: record {key} at byte {offset} is not in the "
                    f"{record_bytes} bytes of the .rec; copy both files again"
                )
            keys.append(key)
            offsets.append(offset)
    if not keys:
        raise PrepareError(f"{path}: expected lines of a key and a byte offset, found none")
    order = np.argsort(np.array(keys, np.int64), kind="stable")
    sorted_keys = np.array(keys, np.int64)[order]
    if (np.diff(sorted_keys) == 0).any():
        raise PrepareError(f"{path}: a key is there twice; copy the index from the data set again")
    return sorted_keys, np.array(offsets, np.int64)[order]
