"""The SQLite file under a gallery: made safely, checked when opened, errors in plain sentences."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from limen.device.gallery.schema import APPLICATION_ID, SCHEMA_VERSION, VERSIONS, is_schema
from limen.errors import GalleryError
from limen.files import sync_folder

BUSY_TIMEOUT_MS = 5_000
FILE_MODE = 0o600

_REMEDIES: dict[int, str] = {
    sqlite3.SQLITE_BUSY: "is in use by another process: let it finish, then try again",
    sqlite3.SQLITE_LOCKED: "is in use by another process: let it finish, then try again",
    sqlite3.SQLITE_CORRUPT: "is damaged: put back a backup, or remove it and enrol again",
    sqlite3.SQLITE_NOTADB: "is not a gallery: check the path",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full: free some space; nothing was changed",
    sqlite3.SQLITE_READONLY: "is read-only: give this user write access to the file and its folder",
    sqlite3.SQLITE_PERM: "may not be used by this user: change its owner",
    sqlite3.SQLITE_AUTH: "may not be used by this user: change its owner",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: give this user access to the file and its folder",
    sqlite3.SQLITE_IOERR: "cannot be read or written: check the disk, then put back a backup",
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


def connect(path: Path, create: bool) -> tuple[sqlite3.Connection, int]:
    """Open a gallery's file; return it with its schema's version, 0 for an empty new one.

    With `create`, an empty file, mode 0600, is made where there is none. Nothing is written to a
    file before it has proved to be a gallery. GalleryError otherwise.
    """
    _check_place(path, create)
    with plain_errors(path):
        connection = open_sqlite(path)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            version = _checked_version(connection, path, create)
            # Readers see the last commit while a writer works; a commit is on the disk, not on its
            # way there, before it is acknowledged (sqlite.org/wal.html, PRAGMA synchronous). EXTRA
            # is FULL once the log is on; before, it makes the switch itself survive a power loss.
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
    return connection, version


def open_sqlite(path: Path) -> sqlite3.Connection:
    """A connection to a file that exists, without a transaction of Python's own making."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_MS / 1000,
    )


def destroy(path: Path, key: Path) -> None:
    """Remove a gallery, its log, its search index and its key. GalleryError where it cannot.

    The key goes first: without it, whatever may be left of the file is noise.
    """
    if not path.is_file() or path.is_symlink():
        raise GalleryError(f"{path}: there is no gallery: check the path")
    try:
        for gone in (
            key,
            path,
            *(path.with_name(path.name + s) for s in ("-wal", "-shm", ".index")),
        ):
            gone.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise GalleryError(
            f"{path}: cannot be removed ({error.strerror}): check its owner"
        ) from error


def _check_place(path: Path, create: bool) -> None:
    """Refuse what is no regular file; make an empty one, mode 0600, where there is none."""
    try:
        if path.is_symlink():
            raise GalleryError(
                f"{path}: expected a gallery, found a link: name the file that it leads to"
            )
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
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # O_EXCL follows no symlink, not even a dangling one.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, FILE_MODE))
        sync_folder(path.parent)
    except FileExistsError as error:
        if path.exists():  # another process made it first; its content is checked next
            return
        raise GalleryError(f"{path}: lies below a file: name a file in a folder") from error
    except OSError as error:
        raise GalleryError(
            f"{path}: the gallery cannot be opened ({error.strerror}): check the path and its owner"
        ) from error


def _checked_version(connection: sqlite3.Connection, path: Path, may_be_empty: bool) -> int:
    application_id = pragma(connection, "application_id")
    version = pragma(connection, "user_version")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id == 0 and version == 0 and tables == 0:
        if may_be_empty:  # made a moment ago, or by a process that was killed right then
            return 0
        raise GalleryError(f"{path}: the file is empty: enrol somebody with 'limen enrol'")
    if application_id != APPLICATION_ID:
        raise GalleryError(
            f"{path}: expected a gallery, found another program's SQLite file: check the path"
        )
    if version not in VERSIONS:
        raise GalleryError(
            f"{path}: gallery schema {version}, this limen reads up to {SCHEMA_VERSION}: "
            "use the version of limen that wrote it"
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok" or not is_schema(connection, version):
        raise GalleryError(
            f"{path}: the gallery is damaged: put back a backup, or remove it and enrol again"
        )
    return version


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


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """A pragma that answers with one number."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
