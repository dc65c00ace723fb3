"""Bringing a folder's index up to date: what is new, changed, moved or gone, and nothing else."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limen.errors import PictureError
from limen.images import MAX_FILE_BYTES, PICTURE_SUFFIXES, decode_picture
from limen.uses.picture_index import INDEX_NAME, PictureIndex, PictureIndexError
from limen.uses.sight import Sight

# What a killed run does again at most.
_BATCH_PICTURES = 64
_BATCH_S = 5.0
_AHEAD = 2

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Brought:
    """What bringing an index up to date did, in pictures.

    embedded: new or changed; reused: known by their bytes under another name or time; removed: no
    longer in the folder; vanished: there when the folder was listed, gone when they were read.
    """

    embedded: int
    reused: int
    unchanged: int
    removed: int
    vanished: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A picture's file as it was read once; image or failure, neither where it is gone."""

    path: bytes
    size: int
    mtime_ns: int
    sha256: bytes
    image: NDArray[np.uint8] | None
    failure: str | None

    def facts(self) -> tuple[bytes, int, int, bytes]:
        """Path, size, time and SHA-256."""
        return self.path, self.size, self.mtime_ns, self.sha256


class _Embedded(NamedTuple):
    """What is kept of a picture. samples: box and embedding of each part, as bytes."""

    facts: tuple[bytes, int, int, bytes]
    failure: str | None
    samples: list[tuple[bytes, bytes]]


def open_index(
    folder: Path, sight: Sight, path: Path | None = None, rebuild: bool = False
) -> PictureIndex:
    """The index of `folder`, made where there is none; FOLDER/.limen-index.db without a path.

    rebuild: one that is there is thrown away. ModelMismatchError where it is of another model,
    PictureIndexError where it is of another folder.
    """
    if not folder.is_dir():
        raise PictureError(f"{folder}: no such folder; check the path")
    where = path or folder / INDEX_NAME
    if rebuild and where.exists():
        PictureIndex.open(where).close()  # nothing but an index is thrown away
        where.unlink()
    if not where.exists():
        return PictureIndex.create(where, folder, sight.model_id, sight.embedding_size)
    index = PictureIndex.open(where, sight.model_id)
    if path is not None and index.folder != folder.resolve():
        index.close()
        raise PictureIndexError(
            f"{where} is the index of another folder, {index.folder}; name another --index"
        )
    index.folder = folder.resolve()  # one beside its pictures may have moved with them
    return index


def bring_up_to_date(
    index: PictureIndex, folder: Path, sight: Sight, report: Report = lambda _, __: None
) -> Brought:
    """Embed what is new or changed in `folder`, forget what is gone.

    A picture counts as unchanged by size and time, and as moved or touched by its bytes. report:
    pictures done and to be done. PictureError where there is none.
    """
    with index.reading() as connection:
        found = _list(connection, folder)
        if not found:
            raise PictureError(
                f"{folder}: no picture there; expected files ending in "
                f"{', '.join(sorted(PICTURE_SUFFIXES))}"
            )
        todo = [
            bytes(row[0])
            for row in connection.execute(
                "SELECT seen.path FROM temp.seen LEFT JOIN picture USING (path) WHERE "
                "picture.id IS NULL OR picture.size != seen.size "
                "OR picture.mtime_ns != seen.mtime_ns ORDER BY seen.path"
            )
        ]
    embedded = reused = vanished = 0
    report(0, len(todo))
    pending: list[_Embedded] = []
    since = time.monotonic()
    for done, loaded in enumerate(_read_ahead(folder, todo), 1):
        if loaded is None:
            vanished += 1
        elif (known := _recall(index, pending, loaded.sha256)) is not None:
            pending.append(_Embedded(loaded.facts(), *known))
            reused += 1
        else:
            pending.append(_embed(loaded, sight))
            embedded += 1
        if len(pending) >= _BATCH_PICTURES or time.monotonic() - since > _BATCH_S:
            _write(index, pending)
            pending, since = [], time.monotonic()
        report(done, len(todo))
    _write(index, pending)
    with index.changing() as connection:
        removed = connection.execute(
            "DELETE FROM picture WHERE path NOT IN (SELECT path FROM temp.seen)"
        ).rowcount
    return Brought(embedded, reused, found - len(todo), removed, vanished)


def _list(connection: sqlite3.Connection, folder: Path) -> int:
    """The folder's pictures into a table of this connection: a million need not lie in memory."""
    connection.execute("DROP TABLE IF EXISTS temp.seen")
    connection.execute(
        "CREATE TEMP TABLE seen (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER)"
        " WITHOUT ROWID"
    )
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO temp.seen VALUES (?, ?, ?)", _pictures(folder))
    connection.commit()
    (count,) = connection.execute("SELECT count(*) FROM temp.seen").fetchone()
    return int(count)


def _pictures(folder: Path) -> Iterator[tuple[bytes, int, int]]:
    root = os.fsencode(folder)
    suffixes = tuple(os.fsencode(suffix) for suffix in PICTURE_SUFFIXES)

    def refuse(error: OSError) -> None:
        raise PictureError(f"{os.fsdecode(error.filename)}: cannot be listed ({error.strerror})")

    for place, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(b".")]
        for name in files:
            if not name.lower().endswith(suffixes) or name.startswith(b"."):
                continue
            path = os.path.join(place, name)
            try:
                status = os.stat(path)
            except OSError:  # gone again, or a link to nowhere
                continue
            if stat.S_ISREG(status.st_mode):
                yield os.path.relpath(path, root), status.st_size, status.st_mtime_ns


def _read_ahead(folder: Path, paths: list[bytes]) -> Iterator[_Loaded | None]:
    """Files are read and decoded while the one before is embedded."""
    root = os.fsencode(folder)
    with ThreadPoolExecutor(1, "reader") as pool:
        waiting: list[Future[_Loaded | None]] = []
        for path in paths:
            waiting.append(pool.submit(_load, root, path))
            if len(waiting) > _AHEAD:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _load(root: bytes, path: bytes) -> _Loaded | None:
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(os.path.join(root, path), flags), "rb") as file:
            # As it was before reading: a file that changes meanwhile is found changed next time.
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return None
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _Loaded(path, 0, 0, b"", None, f"cannot be read ({error.strerror})")
    digest = hashlib.sha256(content).digest()
    facts = (path, status.st_size, status.st_mtime_ns, digest)
    if len(content) > MAX_FILE_BYTES:
        return _Loaded(*facts, None, f"larger than {MAX_FILE_BYTES // 2**20} MiB; make it smaller")
    try:
        return _Loaded(*facts, decode_picture(content), None)
    except PictureError as error:
        return _Loaded(*facts, None, str(error))


def _embed(loaded: _Loaded, sight: Sight) -> _Embedded:
    if loaded.image is None:
        return _Embedded(loaded.facts(), loaded.failure, [])
    try:
        seen = sight.see(loaded.image)
        embeddings = sight.embed(seen)
    except PictureError as error:
        return _Embedded(loaded.facts(), str(error), [])
    samples = [
        (part.box_xyxy.astype("<f4").tobytes(), row.astype("<f4").tobytes())
        for part, row in zip(seen, embeddings, strict=True)
    ]
    failure = None if samples else "nothing to embed was found in it, such as a face"
    return _Embedded(loaded.facts(), failure, samples)


def _recall(
    index: PictureIndex, pending: list[_Embedded], digest: bytes
) -> tuple[str | None, list[tuple[bytes, bytes]]] | None:
    """What the same bytes gave under another name or time; None where they are new."""
    if not digest:
        return None
    for one in pending:
        if one.facts[3] == digest:
            return one.failure, one.samples
    with index.reading() as connection:
        twin = connection.execute(
            "SELECT id, failure FROM picture WHERE sha256 = ?", (digest,)
        ).fetchone()
        if twin is None:
            return None
        samples = connection.execute(
            "SELECT box, embedding FROM sample WHERE picture = ? ORDER BY number", (twin[0],)
        ).fetchall()
    return twin[1], samples


def _write(index: PictureIndex, pending: list[_Embedded]) -> None:
    if not pending:
        return
    with index.changing() as connection:
        for one in pending:
            (number,) = connection.execute(
                "INSERT INTO picture (path, size, mtime_ns, sha256, failure) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET size = excluded.size, "
                "mtime_ns = excluded.mtime_ns, sha256 = excluded.sha256, "
                "failure = excluded.failure RETURNING id",
                (*one.facts, one.failure),
            ).fetchone()
            connection.execute("DELETE FROM sample WHERE picture = ?", (number,))
            connection.executemany(
                "INSERT INTO sample VALUES (?, ?, ?, ?)",
                [(number, n, box, row) for n, (box, row) in enumerate(one.samples)],
            )
