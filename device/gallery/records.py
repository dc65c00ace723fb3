"""Subjects in the file: added, found, listed, changed. Every function works in a transaction."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from limen.device.gallery.audit import SubjectKey
from limen.device.gallery.sealing import KEY_BYTES, DamagedRecordError, context
from limen.device.gallery.templates import (
    crop_context,
    opened_template,
    reference_context,
    seal_template,
)
from limen.device.gallery.vault import UID_BYTES, Vault
from limen.device.subjects import SubjectDetails, SubjectRecord, checked_subject_id
from limen.errors import GalleryError, SubjectNotFoundError

if TYPE_CHECKING:
    from limen.device.gallery.store import Execute, Store

MAX_REFERENCES_A_SUBJECT = 1000


@dataclass(frozen=True, slots=True)
class Enrolment:
    """References to add to a subject.

    embeddings: (k, D) float32, unit norm; qualities: k values, 0 to 1; enrolled_at: UTC, ISO 8601;
    crops: none, or k encoded pictures; details: for a new subject, or in place of the old ones.
    """

    subject_id: str
    embeddings: NDArray[np.float32]
    qualities: Sequence[float]
    enrolled_at: str
    details: SubjectDetails | None = None
    crops: Sequence[bytes] = ()
    negatives: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class StoredSubject:
    """A subject's row, opened."""

    row: int
    key: SubjectKey
    subject_id: str
    enrolled_at: str
    details: SubjectDetails


def insert_subject(
    execute: Execute, vault: Vault, subject_id: str, enrolled_at: str, details: SubjectDetails
) -> StoredSubject:
    """Add a subject who is not there yet."""
    key = SubjectKey(secrets.token_bytes(UID_BYTES), secrets.token_bytes(KEY_BYTES))
    row = execute(
        "INSERT INTO subject (uid, tag, sealed, sealed_audit_key) VALUES (?, ?, ?, ?)",
        (
            key.uid,
            vault.tag(subject_id),
            _sealed_subject(vault, key.uid, subject_id, enrolled_at, details),
            vault.records.seal(key.audit_key, context("audit key", key.uid)),
        ),
    ).lastrowid
    assert row is not None
    return StoredSubject(row, key, subject_id, enrolled_at, details)


def find_subject(store: Store, execute: Execute, subject_id: str) -> StoredSubject | None:
    """The subject of that id, or None."""
    row = execute(
        "SELECT id, uid, sealed, sealed_audit_key FROM subject WHERE tag = ?",
        (store.vault.tag(checked_subject_id(subject_id)),),
    ).fetchone()
    return _opened_subject(store.vault, *row) if row else None


def require_subject(store: Store, execute: Execute, subject_id: str) -> StoredSubject:
    """The subject of that id. SubjectNotFoundError where nobody has it."""
    found = find_subject(store, execute, subject_id)
    if found is None:
        raise SubjectNotFoundError(
            "nobody is enrolled under that subject id: 'limen subjects' lists who is"
        )
    return found


def subject_uid(store: Store, subject_id: str) -> bytes:
    """The random number (16 bytes) of a subject, which a rename keeps and nobody has twice.

    SubjectNotFoundError where nobody is enrolled under that id.
    """
    with store.reading() as execute:
        return require_subject(store, execute, subject_id).key.uid


def enrolled_uids(store: Store) -> set[bytes]:
    """The random numbers of everybody who is enrolled."""
    with store.reading() as execute:
        return {bytes(uid) for (uid,) in execute("SELECT uid FROM subject")}


def ids_by_uid(store: Store) -> dict[bytes, str]:
    """Everybody's subject id by random number."""
    with store.reading() as execute:
        return {found.key.uid: found.subject_id for found in stored_subjects(store, execute)}


def stored_subjects(
    store: Store, execute: Execute, rows: Sequence[int] | None = None
) -> list[StoredSubject]:
    """Everybody, or those in these rows of the file, sorted by subject id."""
    chosen = "" if rows is None else f" WHERE id IN ({', '.join('?' * len(rows))})"
    sealed = execute(
        f"SELECT id, uid, sealed, sealed_audit_key FROM subject{chosen}", tuple(rows or ())
    ).fetchall()
    found = [_opened_subject(store.vault, *row) for row in sealed]
    return sorted(found, key=lambda subject: subject.subject_id)


def list_records(store: Store, execute: Execute) -> list[SubjectRecord]:
    """Everybody with the number of references, sorted by subject id."""
    counts = dict(execute("SELECT subject, count(*) FROM reference GROUP BY subject").fetchall())
    crops = dict(
        execute("SELECT subject, count(sealed_crop) FROM reference GROUP BY subject").fetchall()
    )
    negatives = dict(execute("SELECT subject, count(*) FROM negative GROUP BY subject").fetchall())
    return [
        SubjectRecord(
            subject.subject_id,
            counts.get(subject.row, 0),
            subject.enrolled_at,
            subject.details,
            negatives.get(subject.row, 0),
            crops.get(subject.row, 0),
        )
        for subject in stored_subjects(store, execute)
    ]


def update_subject(
    execute: Execute, vault: Vault, subject: StoredSubject, subject_id: str, details: SubjectDetails
) -> None:
    """Write another id or other details in a subject's row."""
    sealed = _sealed_subject(vault, subject.key.uid, subject_id, subject.enrolled_at, details)
    execute(
        "UPDATE subject SET tag = ?, sealed = ? WHERE id = ?",
        (vault.tag(subject_id), sealed, subject.row),
    )


def add_references(
    store: Store, execute: Execute, subject: StoredSubject, model_id: str, new: Enrolment
) -> None:
    """Add checked references (and crops) to a subject."""
    sealer = store.vault.records
    bound_to = reference_context(subject.key.uid, model_id)
    known = execute(
        "SELECT r.sealed, s.uid FROM reference r JOIN subject s ON s.id = r.subject LIMIT 1"
    )
    if found := known.fetchone():
        size = len(opened_template(sealer, found[0], reference_context(found[1], model_id))) // 4
        if size != new.embeddings.shape[1]:
            raise GalleryError(
                f"the gallery's references have {size} values, these {new.embeddings.shape[1]}: "
                "use the bundle that the others were enrolled with"
            )
    (had,) = execute("SELECT count(*) FROM reference WHERE subject = ?", (subject.row,)).fetchone()
    if had + len(new.embeddings) > MAX_REFERENCES_A_SUBJECT:
        raise GalleryError(
            f"a subject has at most {MAX_REFERENCES_A_SUBJECT} references: a few good ones do more"
        )
    crops: Sequence[bytes | None] = new.crops or [None] * len(new.embeddings)
    for row, quality, crop in zip(new.embeddings, new.qualities, crops, strict=True):
        execute(
            "INSERT INTO reference (subject, sealed, sealed_crop) VALUES (?, ?, ?)",
            (
                subject.row,
                seal_template(sealer, row, float(quality), new.enrolled_at, bound_to),
                crop and sealer.seal(crop, crop_context(subject.key.uid)),
            ),
        )


def _sealed_subject(
    vault: Vault, uid: bytes, subject_id: str, enrolled_at: str, details: SubjectDetails
) -> bytes:
    value = {
        "subject_id": subject_id,
        "enrolled_at": enrolled_at,
        "details": details.model_dump(mode="json", exclude_defaults=True),
    }
    return vault.records.seal(json.dumps(value).encode(), context("subject", uid))


def _opened_subject(
    vault: Vault, row: int, uid: bytes, sealed: bytes, sealed_audit_key: bytes
) -> StoredSubject:
    value: dict[str, Any] = json.loads(vault.records.open(sealed, context("subject", uid)))
    key = SubjectKey(uid, vault.records.open(sealed_audit_key, context("audit key", uid)))
    try:
        details = SubjectDetails.model_validate(value["details"])
    except ValidationError as error:
        raise DamagedRecordError("a subject's record is damaged: put back a backup") from error
    return StoredSubject(row, key, value["subject_id"], value["enrolled_at"], details)
