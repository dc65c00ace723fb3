"""A new key for everything that is sealed."""

from __future__ import annotations

from limen.device.gallery.erasure import purge
from limen.device.gallery.index_key import destroy_index_key
from limen.device.gallery.keys import (
    KeyFile,
    KeySource,
    new_key_file,
    next_key,
    put_next_key_in_force,
)
from limen.device.gallery.records import stored_subjects
from limen.device.gallery.sealing import Sealer, context
from limen.device.gallery.store import Execute, Store
from limen.device.gallery.templates import crop_context, negative_context, reference_context
from limen.device.gallery.vault import Vault


def rekey(store: Store, source: KeySource, *, in_place: bool) -> bool:
    """Seal everything again under a new data key that `source` opens, in one transaction.

    in_place: `source` is the key file in use; a new key takes its place once the gallery is sealed
    with it, and a process killed in between is caught up with by the next that opens the gallery.
    Returns whether the bytes of the old records are gone from the file already (else they go when
    it is opened next). Backups open with the key of their day. The store must be opened again.
    """
    wanted = source
    if in_place and isinstance(source, KeyFile):
        wanted = next_key(source)
        wanted.path.unlink(missing_ok=True)  # left by a rotation that was never committed
    if isinstance(wanted, KeyFile):
        new_key_file(wanted.path)
    new = store.vault.with_new_data_key()
    with store.writing() as execute:
        destroy_index_key(execute)  # whoever saw the old key may have seen the index's
        _seal_again(store, execute, new)
        new.ring(wanted).write(store.connection)
        execute("UPDATE door SET purge_due = 1")
        store.note("rekeyed", {"kind": source.kind})
    store.vault = new
    if in_place and isinstance(source, KeyFile):
        put_next_key_in_force(source)
    return purge(store)


def _seal_again(store: Store, execute: Execute, new: Vault) -> None:
    old = store.vault.records
    (model_id,) = execute("SELECT model_id FROM door").fetchone()
    for subject in stored_subjects(store, execute):
        uid = subject.key.uid
        _column(
            execute, old, new.records, "subject", "sealed", context("subject", uid), subject.row
        )
        _column(
            *(execute, old, new.records, "subject", "sealed_audit_key"),
            context("audit key", uid),
            subject.row,
        )
        execute(
            "UPDATE subject SET tag = ? WHERE id = ?", (new.tag(subject.subject_id), subject.row)
        )
        for table, column, bound_to in (
            ("reference", "sealed", reference_context(uid, model_id)),
            ("reference", "sealed_crop", crop_context(uid)),
            ("negative", "sealed", negative_context(uid, model_id)),
        ):
            rows = execute(
                f"SELECT id FROM {table} WHERE subject = ? AND {column} IS NOT NULL", (subject.row,)
            ).fetchall()
            for (row,) in rows:
                _column(execute, old, new.records, table, column, bound_to, row)
    for table, bound_to in (
        ("operating_point", context("operating point")),
        ("backup", context("backup")),
    ):
        for (row,) in execute(f"SELECT id FROM {table}").fetchall():
            _column(execute, old, new.records, table, "sealed", bound_to, row)
    for (name,) in execute("SELECT name FROM setting").fetchall():
        (sealed,) = execute("SELECT sealed FROM setting WHERE name = ?", (name,)).fetchone()
        content = old.open(sealed, context("setting", name))
        sealed = new.records.seal(content, context("setting", name))
        execute("UPDATE setting SET sealed = ? WHERE name = ?", (sealed, name))


def _column(
    execute: Execute, old: Sealer, new: Sealer, table: str, column: str, bound_to: bytes, row: int
) -> None:
    (sealed,) = execute(f"SELECT {column} FROM {table} WHERE id = ?", (row,)).fetchone()
    again = new.seal(old.open(sealed, bound_to), bound_to)
    execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (again, row))
