"""The SQLite file under a gallery: made safely, checked when opened, errors in plain sentences."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from limen.errors import GalleryError
from limen.files import sync_folder

# "lmGa": tells a gallery from everybody else's SQLite files.
APPLICATION_ID = 0x6C6D4761
SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 5_000
FILE_MODE = 0o600

# `door` has one row. `changes` counts every change, `reference_changes` those of references;
# an operating point remembers the latter, and is stale once they differ.
_SCHEMA = """
CREATE TABLE door (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    model_id TEXT NOT NULL,
    changes INTEGER NOT NULL DEFAULT 0,
    reference_changes INTEGER NOT NULL DEFAULT 0,
    operating_point INTEGER REFERENCES operating_point (id)
) STRICT;
CREATE TABLE subject (
    id INTEGER PRIMARY KEY,
    subject_id TEXT NOT NULL UNIQUE,
    enrolled_at TEXT NOT NULL
) STRICT;
CREATE TABLE reference (
    id INTEGER PRIMARY KEY,
    subject INTEGER NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    embedding BLOB NOT NULL,
    quality REAL NOT NULL,
    enrolled_at TEXT NOT NULL
) STRICT;
CREATE INDEX reference_subject ON reference (subject);
CREATE TABLE operating_point (
    id INTEGER PRIMARY KEY,
    model_id TEXT NOT NULL,
    reference_changes INTEGER NOT NULL,
    point TEXT NOT NULL
) STRICT;
"""

_REMEDIES: dict[int, str] = {
    sqlite3.SQLITE_BUSY: "is in use by another process: let it finish, then try again",
    sqlite3.SQLITE_LOCKED: "is in use by another process: let it finish, then try again",
    sqlite3.SQLITE_CORRUPT: "is damaged: put back a copy, or remove it and enrol again",
    sqlite3.SQLITE_NOTADB: "is not a gallery: check the path",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full: free some space; nothing was changed",
    sqlite3.SQLITE_READONLY: "is read-only: give this user write access to the file and its folder",
    sqlite3.SQLITE_PERM: "may not be used by this user: change its owner",
    sqlite3.SQLITE_AUTH: "may not be used by this user: change its owner",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: give this user access to the file and its folder",
    sqlite3.SQLITE_IOERR: "cannot be read or written: check the disk, then put back a copy",
}


@contextlib.contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Turn every sqlite3.Error in the block into a GalleryError that names the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
        remedy = _REMEDIES.get(code, f"cannot be used ({error}): check the file and its folder")
        raise GalleryError(f"{path}: the gallery {remedy}") from error


def connect(path: Path, create: bool, model_id: str | None) -> sqlite3.Connection:
    """Open a gallery's file, or make one for `model_id` where `create` allows it.

    A file is written to only after it has proved to be a gallery. GalleryError otherwise.
    """
    _check_place(path, create, model_id)
    with plain_errors(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
        try:
            _check_content(connection, path, create and model_id is not None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")
            if create and model_id is not None:
                _write_schema(connection, model_id)
        except BaseException:
            connection.close()
            raise
    return connection


def _check_place(path: Path, create: bool, model_id: str | None) -> None:
    """Refuse what is no regular file; make an empty one, mode 0600, where there is none."""
    try:
        if path.exists():
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
                raise GalleryError(f"{path}: expected a gallery, found {kind}: name a file in it")
            return
        if not create:
            raise GalleryError(
                f"{path}: there is no gallery yet: enrol somebody with 'limen enrol'"
            )
        if model_id is None:
            raise GalleryError(f"{path}: a new gallery needs a model id: open it with a bundle")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # O_EXCL follows no symlink, not even a dangling one.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, FILE_MODE))
        sync_folder(path.parent)
    except FileExistsError as error:
        if path.exists():  # another process made it first; its content is checked next
            return
        raise GalleryError(
            f"{path}: is a link to nothing, or lies below a file: name the file itself"
        ) from error
    except OSError as error:
        raise GalleryError(
            f"{path}: the gallery cannot be opened ({error.strerror}): check the path and its owner"
        ) from error


def _check_content(connection: sqlite3.Connection, path: Path, may_be_empty: bool) -> None:
    application_id = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id == 0 and version == 0 and tables == 0:
        if may_be_empty:  # made a moment ago, or by a process that was killed right then
            return
        raise GalleryError(f"{path}: the file is empty: enrol somebody with 'limen enrol'")
    if application_id != APPLICATION_ID:
        raise GalleryError(
            f"{path}: expected a gallery, found another program's SQLite file: check the path"
        )
    if version != SCHEMA_VERSION:
        raise GalleryError(
            f"{path}: gallery schema {version}, this limen reads {SCHEMA_VERSION}: "
            "use the version of limen that wrote it"
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise GalleryError(
            f"{path}: the gallery is damaged: put back a copy, or remove it and enrol again"
        )


def _write_schema(connection: sqlite3.Connection, model_id: str) -> None:
    with transaction(connection):
        if _pragma(connection, "application_id") == APPLICATION_ID:
            return
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO door (id, model_id) VALUES (1, ?)", (model_id,))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block, durable when it ends, or none of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
