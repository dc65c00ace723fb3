"""Backups: made while the door runs, sealed like the gallery, and listed in it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path

from limen.device.gallery.checking import check
from limen.device.gallery.file import FILE_MODE, plain_errors
from limen.device.gallery.keys import KeySource, default_key
from limen.device.gallery.sealing import context
from limen.device.gallery.store import Execute, Store, now_utc
from limen.errors import GalleryError
from limen.files import sync_folder


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that this gallery made. made_at: UTC, ISO 8601."""

    path: str
    made_at: str


def listed_backups(store: Store, execute: Execute) -> list[Backup]:
    """Every backup that was made, oldest first, whether it is still there or not."""
    rows = execute("SELECT sealed FROM backup ORDER BY id").fetchall()
    opened = (store.vault.records.open(sealed, context("backup")) for (sealed,) in rows)
    return [Backup(**json.loads(content)) for content in opened]


def back_up(store: Store, target: Path) -> None:
    """Copy the gallery to a new file, mode 0600; whoever reads or enrols meanwhile is not kept waiting.

    The copy opens with the same key. It appears under its name whole and durable, or not at all.
    GalleryError where `target` exists, or cannot be written.
    """
    if os.path.lexists(target):
        raise GalleryError(f"{target}: is there already: name a new file for the backup")
    made_at = store.clock().isoformat(timespec="seconds")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(descriptor)
        os.chmod(temporary, FILE_MODE)
    except OSError as error:
        raise GalleryError(
            f"{target}: the backup cannot be written ({error.strerror}): check the folder"
        ) from error
    try:
        # Listed before it exists: a deletion that follows must not miss it.
        with store.writing(door=False) as execute:
            sealed = json.dumps({"path": str(target.absolute()), "made_at": made_at}).encode()
            execute(
                "INSERT INTO backup (sealed) VALUES (?)",
                (store.vault.records.seal(sealed, context("backup")),),
            )
            store.note("backed up")
        with plain_errors(target):
            copy = sqlite3.connect(temporary, isolation_level=None)
            try:
                store.connection.backup(copy)
                # The copy has no log of its own: one file is the whole backup.
                copy.execute("PRAGMA journal_mode = DELETE")
            finally:
                copy.close()
        _sync_file(Path(temporary))
        os.link(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise GalleryError(
            f"{target}: the backup cannot be written ({error.strerror}): free some space, or name "
            "another folder"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def restore(backup: Path, target: Path, key: KeySource | None) -> None:
    """Make a gallery of a backup, where there is none; it is checked before it gets its name.

    key: the gallery's; the file beside `target` where none is given. People who were erased after
    the backup was made are in it again: the receipts of their erasure say who, by number.
    GalleryError where `target` exists, the key does not fit, or the backup is damaged.
    """
    if os.path.lexists(target):
        raise GalleryError(f"{target}: there is a gallery already: move it away first")
    source = key or default_key(target)
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".restore.") as folder:
        copy = Path(folder) / target.name
        try:
            if backup.is_symlink() or not backup.is_file():
                raise GalleryError(f"{backup}: expected a backup's file: check the path")
            shutil.copyfile(backup, copy)
            copy.chmod(FILE_MODE)
        except OSError as error:
            raise GalleryError(f"{backup}: cannot be copied ({error.strerror})") from error
        store = Store.open(
            copy, model_id=None, create=False, key=source, actor="restore", clock=now_utc
        )
        try:
            check(store)
            with store.writing():
                store.note("restored")
            with plain_errors(copy):
                store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            store.close()
        _sync_file(copy)
        os.link(copy, target)
        sync_folder(target.absolute().parent)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
