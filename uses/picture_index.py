"""The index of a folder: one SQLite file with what was embedded of every picture.

Bound to the model that made it. A row a picture, with size, time and SHA-256, so that only what
changed is embedded again; every batch is a transaction, so a killed run loses a batch at most.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from limen.errors import LimenError, ModelMismatchError
from limen.uses.embedding_set import EmbeddingSet, folder_label, numbered_labels

INDEX_NAME = ".limen-index.db"
APPLICATION_ID = 0x4C494D49
SCHEMA_VERSION = 1
MAX_SAMPLES = 4_000_000

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE picture (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    failure TEXT
);
CREATE INDEX picture_sha256 ON picture (sha256);
CREATE TABLE sample (
    picture INTEGER NOT NULL REFERENCES picture (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    box BLOB NOT NULL,
    embedding BLOB NOT NULL,
    PRIMARY KEY (picture, number)
) WITHOUT ROWID;
"""


class PictureIndexError(LimenError, ValueError):
    """An index cannot be opened, read or written."""


class PictureIndex:
    """An open index. Use it in `with`; closing twice is harmless."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        try:
            self.model_id = str(meta["model_id"])
            self.embedding_size = int(meta["embedding_size"])
            self.folder = Path(meta["folder"])
        except (KeyError, ValueError) as error:
            raise _damaged(path) from error
        if not 1 <= self.embedding_size <= 65_536:
            raise _damaged(path)

    @classmethod
    def create(cls, path: Path, folder: Path, model_id: str, embedding_size: int) -> Self:
        """A new, empty index of `folder`. PictureIndexError where it cannot be written."""
        try:
            # Faces can be recognised by what it holds: only its user reads it.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with _explained(path):
                connection = _connect(path)
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
                connection.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [
                        ("model_id", model_id),
                        ("embedding_size", str(embedding_size)),
                        ("folder", str(folder.resolve())),
                    ],
                )
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                connection.commit()
                return cls(connection, path)
        except OSError as error:
            raise PictureIndexError(
                f"{path}: the index cannot be written ({error.strerror}); name another place with "
                "--index FILE"
            ) from error

    @classmethod
    def open(cls, path: Path, model_id: str | None = None) -> Self:
        """Open an index. ModelMismatchError where it is of another model than `model_id`.

        PictureIndexError where the file is missing, damaged, or no index.
        """
        if not path.is_file():
            raise PictureIndexError(f"{path}: no such index; name a folder of pictures to make one")
        with _explained(path):
            connection = _connect(path)
            try:
                (application,) = connection.execute("PRAGMA application_id").fetchone()
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if application != APPLICATION_ID:
                    raise PictureIndexError(f"{path}: not an index of pictures; check the path")
                if version != SCHEMA_VERSION:
                    raise PictureIndexError(
                        f"{path}: index of schema {version}, expected {SCHEMA_VERSION}: delete it, "
                        "and it is made again"
                    )
                index = cls(connection, path)
            except BaseException:
                connection.close()
                raise
        if model_id is not None and index.model_id != model_id:
            index.close()
            raise ModelMismatchError(
                f"{path} was made with model {index.model_id[:8]}, this is {model_id[:8]}: give the "
                "bundle, precision and domain it was made with, or embed everything again with "
                "--rebuild"
            )
        return index

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was not committed is given up."""
        self._connection.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of the block, or nothing of it."""
        with _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, its errors explained. What it makes in `temp` is this connection's own."""
        with _explained(self.path):
            yield self._connection

    def counts(self) -> dict[str, int]:
        """How many pictures, how many of them failed, how many samples."""
        with self.reading() as connection:
            pictures, failed = connection.execute(
                "SELECT count(*), count(failure) FROM picture"
            ).fetchone()
            (samples,) = connection.execute("SELECT count(*) FROM sample").fetchone()
        return {"pictures": pictures, "failures": failed, "samples": samples}

    def failures(self, limit: int = 1000) -> list[tuple[str, str]]:
        """Pictures that gave no embedding, and why, in the order of their paths."""
        with self.reading() as connection:
            rows = connection.execute(
                "SELECT path, failure FROM picture WHERE failure IS NOT NULL ORDER BY path LIMIT ?",
                (limit,),
            ).fetchall()
        return [(os.fsdecode(path), str(failure)) for path, failure in rows]

    def digests(self) -> list[tuple[str, bytes]]:
        """Path and SHA-256 of every picture, in the order of the paths."""
        with self.reading() as connection:
            rows = connection.execute("SELECT path, sha256 FROM picture ORDER BY path").fetchall()
        return [(os.fsdecode(path), bytes(digest)) for path, digest in rows]

    def embeddings(self) -> EmbeddingSet:
        """Everything that was embedded, by path; labels by folder. PictureIndexError if damaged."""
        with self.reading() as connection:
            (count,) = connection.execute("SELECT count(*) FROM sample").fetchone()
            if count > MAX_SAMPLES:
                raise PictureIndexError(f"{self.path}: {count:,} samples, at most {MAX_SAMPLES:,}")
            rows = connection.execute(
                "SELECT path, number, box, embedding FROM sample JOIN picture ON picture = id "
                "ORDER BY path, number"
            ).fetchall()
        names = tuple(os.fsdecode(row[0]) for row in rows)
        boxes = _matrix([row[2] for row in rows], 4, self.path)
        values = _matrix([row[3] for row in rows], self.embedding_size, self.path)
        if not np.allclose(np.linalg.norm(values, axis=1), 1, atol=1e-3):
            raise _damaged(self.path)
        label, label_names = numbered_labels([folder_label(name) for name in names])
        return EmbeddingSet(
            name=names,
            embeddings=values,
            label=label,
            label_names=label_names,
            model_id=self.model_id,
            folder=self.folder,
            box_xyxy=boxes,
            nearest=np.array([row[1] == 0 for row in rows], np.bool_),
        )


def _matrix(blobs: list[bytes], columns: int, path: Path) -> NDArray[np.float32]:
    if any(not isinstance(blob, bytes) or len(blob) != 4 * columns for blob in blobs):
        raise _damaged(path)
    values = np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), columns)
    if not np.isfinite(values).all():
        raise _damaged(path)
    return np.asarray(values, np.float32)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise PictureIndexError(
            f"{path}: the index cannot be used ({error}); check disk, permissions, and whether "
            "another limen is writing it"
        ) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> PictureIndexError:
    return PictureIndexError(f"{path}: the index is damaged: delete it, and it is made again")
