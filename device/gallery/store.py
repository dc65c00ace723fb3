"""An opened gallery file with its keys: what every room of the gallery reads and writes through."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from limen.device.gallery.audit import SubjectKey, append
from limen.device.gallery.expiry import nobody_expires
from limen.device.gallery.file import connect, plain_errors, pragma, transaction
from limen.device.gallery.index_key import destroy_index_key, note_changed
from limen.device.gallery.keys import (
    GalleryKeyError,
    KeyFile,
    KeySource,
    default_key,
    new_key_file,
    next_key,
    put_next_key_in_force,
)
from limen.device.gallery.migration import migrate_1_to_2
from limen.device.gallery.schema import APPLICATION_ID, SCHEMA_VERSION, statements
from limen.device.gallery.vault import Keyring, Vault
from limen.errors import GalleryError

Execute = Callable[..., sqlite3.Cursor]
Clock = Callable[[], datetime]


def now_utc() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Store:
    """The file, its keys, who is at work, and the clock.

    actor: whom the audit log names; made_key: the key file that opening made, if it made one.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        vault: Vault,
        *,
        actor: str,
        clock: Clock,
        made_key: Path | None = None,
    ) -> None:
        self.connection = connection
        self.path = path
        self.vault = vault
        self.actor = actor
        self.clock = clock
        self.made_key = made_key
        self._touched: set[int] = set()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        model_id: str | None,
        create: bool,
        key: KeySource | None,
        actor: str,
        clock: Clock,
    ) -> Self:
        """Open a file, migrate it where it is old, make it where it is new. GalleryError otherwise."""
        if create and model_id is None and not path.exists():
            raise GalleryError(f"{path}: a new gallery needs a model id: open it with a bundle")
        create = create and model_id is not None
        connection, version = connect(path, create)
        try:
            with plain_errors(path):
                made_key = None
                if version < SCHEMA_VERSION:
                    made_key = _new_key(path, key)
                    _bring_up(connection, path, model_id or "", key, actor, clock)
                source = key or default_key(path)
                (uid,) = connection.execute("SELECT gallery_uid FROM door").fetchone()
                vault = _opened(uid, Keyring.read(connection), source)
        except BaseException:
            connection.close()
            raise
        return cls(connection, path, vault, actor=actor, clock=clock, made_key=made_key)

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        with plain_errors(self.path):
            self.connection.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Execute]:
        """Statements that read; errors in plain sentences."""
        with plain_errors(self.path):
            yield self.connection.execute

    @contextlib.contextmanager
    def writing(self, *, references: bool = False, door: bool = True) -> Iterator[Execute]:
        """One transaction. door: whether a running door must notice; references: whether they change.

        A change of references that names no subject with `touch` ends the search index.
        """
        with plain_errors(self.path), transaction(self.connection):
            self._touched.clear()
            yield self.connection.execute
            if self._touched:
                note_changed(self.connection.execute, self.vault, self._touched)
            elif references:
                destroy_index_key(self.connection.execute)
            if door or references:
                self.connection.execute(
                    "UPDATE door SET changes = changes + 1,"
                    " reference_changes = reference_changes + ?",
                    (int(references),),
                )

    def touch(self, subject_row: int) -> None:
        """Say whose record or references the transaction under way changes."""
        self._touched.add(subject_row)

    def note(
        self,
        kind: str,
        detail: dict[str, object] | None = None,
        *,
        subject: SubjectKey | None = None,
        personal: dict[str, object] | None = None,
    ) -> None:
        """Add an entry to the audit log, in the transaction under way.

        personal: fields about a subject, sealed under a key of its own.
        """
        append(
            self.connection,
            self.vault,
            at=self.clock(),
            actor=self.actor,
            kind=kind,
            detail=detail or {},
            subject=subject,
            personal=personal,
        )

    @property
    def model_id(self) -> str:
        """The model whose references the gallery holds."""
        with self.reading() as execute:
            return str(execute("SELECT model_id FROM door").fetchone()[0])


def _new_key(path: Path, key: KeySource | None) -> Path | None:
    """Make the key file of a gallery that has none yet; None where it was there, or is a passphrase."""
    source = key or default_key(path)
    if not isinstance(source, KeyFile) or source.path.exists():
        return None
    new_key_file(source.path)
    return source.path


def _bring_up(
    connection: sqlite3.Connection,
    path: Path,
    model_id: str,
    key: KeySource | None,
    actor: str,
    clock: Clock,
) -> None:
    """Make the tables of an empty file, or migrate an older one: all of it, or nothing."""
    source = key or default_key(path)
    with transaction(connection):
        version = pragma(connection, "user_version")  # again: another process may have been faster
        if version == SCHEMA_VERSION:
            return
        vault = Vault.new()
        if version == 1:
            migrate_1_to_2(connection, vault)
        else:
            for statement in statements(SCHEMA_VERSION):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO door (id, gallery_uid, model_id) VALUES (1, ?, ?)",
                (vault.gallery_uid, model_id),
            )
        vault.ring(source).write(connection)
        nobody_expires(connection.execute, vault)
        append(
            connection,
            vault,
            at=clock(),
            actor=actor,
            kind="migrated" if version else "created",
            detail={"from": version, "to": SCHEMA_VERSION},
        )
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _opened(uid: bytes, ring: Keyring, source: KeySource) -> Vault:
    """Open the keys; finish a change of the key file that was cut short after its commit."""
    try:
        return Vault.open(uid, ring, source)
    except GalleryKeyError:
        if not isinstance(source, KeyFile) or not next_key(source).path.exists():
            raise
        vault = Vault.open(uid, ring, next_key(source))
        put_next_key_in_force(source)
        return vault
