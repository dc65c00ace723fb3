"""Chosen subjects in one file, for another door of the same model: encrypted, and signed.

    magic, version (2 bytes), length of the header (4 bytes), header (JSON), sealed content, signature

The content is sealed (AES-256-GCM) under a key that a passphrase gives (Argon2id); magic, version
and header are its context. The Ed25519 signature runs over everything before it. A reader checks,
in this order: magic, version, size, signature, whom it trusts, passphrase, content.
"""

from __future__ import annotations

import base64
import secrets
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.device.gallery.enrolling import enrol
from limen.device.gallery.keys import (
    SALT_BYTES,
    GalleryKeyError,
    KdfCost,
    Passphrase,
    checked_passphrase,
    stretched,
)
from limen.device.gallery.points import short
from limen.device.gallery.records import Enrolment, find_subject, require_subject
from limen.device.gallery.sealing import DamagedRecordError, Sealer, derived_key
from limen.device.gallery.settings import read_setting, write_setting
from limen.device.gallery.store import Execute, Store
from limen.device.gallery.templates import (
    STORED,
    checked_embeddings,
    is_adapted,
    negative_context,
    opened_shot,
    reference_context,
)
from limen.device.gallery.vault import fingerprint
from limen.device.subjects import SubjectDetails
from limen.errors import GalleryError, ModelMismatchError
from limen.files import write_atomically

MAGIC = b"limen subjects\n"
VERSION = 1
MAX_BYTES = 256 * 2**20
MAX_CONTENT_BYTES = 1024 * 2**20
SIGNATURE_BYTES = 64
TRUSTED = "trusted signers"
_FRAME = struct.Struct(">HI")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Header(_Strict):
    model_id: str = Field(min_length=1, max_length=64)
    made_at: str = Field(max_length=40)
    signed_by: str = Field(pattern="^[0-9a-f]{64}$")
    salt: str = Field(pattern="^[0-9a-f]{32}$")
    cost: str = Field(max_length=100)


class _Template(_Strict):
    embedding: str
    quality: float = Field(ge=0, le=1)
    taken_at: str = Field(min_length=1, max_length=40)


class _Subject(_Strict):
    subject_id: str
    enrolled_at: str
    details: SubjectDetails
    references: tuple[_Template, ...]
    negatives: tuple[_Template, ...]


class _Content(_Strict):
    subjects: tuple[_Subject, ...]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A file of subjects whose signature holds, not opened yet. signer: a fingerprint."""

    header: _Header
    signer: str
    bound_to: bytes
    sealed: bytes


def export_subjects(
    store: Store, subject_ids: Sequence[str], passphrase: Passphrase, target: Path
) -> None:
    """Write chosen subjects to a new file, mode 0600. Crops, and what the door added, stay behind.

    SubjectNotFoundError for an id that nobody has; GalleryKeyError for a passphrase that is too
    short; GalleryError where the file cannot be written.
    """
    checked_passphrase(passphrase.text)
    with store.reading() as execute:
        (model_id,) = execute("SELECT model_id FROM door").fetchone()
        content = _Content(
            subjects=tuple(
                _exported(store, execute, subject_id, model_id)
                for subject_id in dict.fromkeys(subject_ids)
            )
        )
    salt = secrets.token_bytes(SALT_BYTES)
    header = _Header(
        model_id=model_id,
        made_at=store.clock().isoformat(timespec="seconds"),
        signed_by=store.vault.public_key().hex(),
        salt=salt.hex(),
        cost=passphrase.cost.to_json(),
    )
    encoded = header.model_dump_json().encode()
    bound_to = MAGIC + _FRAME.pack(VERSION, len(encoded)) + encoded
    body = bound_to + _sealer(passphrase, header).seal(
        zlib.compress(content.model_dump_json().encode()), bound_to
    )
    if len(body) > MAX_BYTES - SIGNATURE_BYTES:
        raise GalleryError("too many subjects for one file: export them in several")
    try:
        with write_atomically(target, 0o600) as file:
            file.write(body + store.vault.signing_key.sign(body))
    except OSError as error:
        raise GalleryError(f"{target}: cannot be written ({error.strerror})") from error
    with store.writing(door=False):
        store.note("exported", {"subjects": len(content.subjects)})


def read_export(path: Path) -> Sealed:
    """Check a file's frame and signature. GalleryError with what is wrong; nothing is opened."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GalleryError(f"{path}: larger than {MAX_BYTES // 2**20} MiB; not limen's")
        body = path.read_bytes()
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    start = len(MAGIC) + _FRAME.size
    if not body.startswith(MAGIC) or len(body) < start:
        raise GalleryError(f"{path}: not a file of subjects: check the path")
    version, length = _FRAME.unpack_from(body, len(MAGIC))
    if version > VERSION:
        raise GalleryError(
            f"{path}: of version {version}, this limen reads up to {VERSION}: update limen"
        )
    end = len(body) - SIGNATURE_BYTES
    damaged = f"{path}: was cut or edited after it was signed: copy it again from where it was made"
    if start + length > end:
        raise GalleryError(damaged)
    try:
        header = _Header.model_validate_json(body[start : start + length])
        public_key = bytes.fromhex(header.signed_by)
        Ed25519PublicKey.from_public_bytes(public_key).verify(body[end:], body[:end])
    except (ValidationError, InvalidSignature, ValueError) as error:
        raise GalleryError(damaged) from error
    bound_to, sealed = body[: start + length], body[start + length : end]
    return Sealed(header, fingerprint(public_key), bound_to, sealed)


def is_trusted(store: Store, sealed: Sealed) -> bool:
    """Whether this gallery has accepted that signer before, or is itself the signer."""
    own = store.vault.public_key().hex()
    with store.reading() as execute:
        trusted = read_setting(store.vault, execute, TRUSTED) or []
    return sealed.header.signed_by in (own, *trusted)


def import_subjects(store: Store, sealed: Sealed, passphrase: Passphrase) -> list[str]:
    """Open a file and enrol everybody in it, all or none; their ids. The signer is trusted from then on.

    ModelMismatchError where it is of another model; GalleryKeyError for a wrong passphrase;
    GalleryError where an id is taken, or the content is not what it should be.
    """
    if sealed.header.model_id != store.model_id:
        raise ModelMismatchError(
            f"gallery holds templates of model {short(store.model_id)}, the file's are of "
            f"{short(sealed.header.model_id)}: enrol these subjects here with 'limen enrol'"
        )
    try:
        packed = _sealer(passphrase, sealed.header).open(sealed.sealed, sealed.bound_to)
    except DamagedRecordError as error:
        raise GalleryKeyError("the passphrase is not this file's: type it again") from error
    enrolments = _enrolments(_unpacked(packed))
    with store.reading() as execute:
        taken = sum(find_subject(store, execute, new.subject_id) is not None for new in enrolments)
    if taken:
        raise GalleryError(
            f"{taken} of the file's subject ids are enrolled here already: nothing was imported; "
            "rename or remove them first"
        )
    enrol(store, enrolments)
    with store.writing(door=False) as execute:
        trusted = read_setting(store.vault, execute, TRUSTED) or []
        if sealed.header.signed_by not in trusted:
            write_setting(store.vault, execute, TRUSTED, [*trusted, sealed.header.signed_by])
        store.note("imported", {"subjects": len(enrolments), "signer": sealed.signer})
    return [new.subject_id for new in enrolments]


def _exported(store: Store, execute: Execute, subject_id: str, model_id: str) -> _Subject:
    subject = require_subject(store, execute, subject_id)
    found: dict[str, tuple[_Template, ...]] = {}
    for table, bound_to in (
        ("reference", reference_context(subject.key.uid, model_id)),
        ("negative", negative_context(subject.key.uid, model_id)),
    ):
        rows = execute(
            f"SELECT sealed FROM {table} WHERE subject = ? ORDER BY id", (subject.row,)
        ).fetchall()
        opens = store.vault.records
        shots = [
            opened_shot(opens, sealed, bound_to)
            for (sealed,) in rows
            if not is_adapted(opens, sealed, bound_to)
        ]
        found[table] = tuple(
            _Template(embedding=_encoded(row), quality=quality, taken_at=taken_at)
            for row, quality, taken_at in shots
        )
    return _Subject(
        subject_id=subject.subject_id,
        enrolled_at=subject.enrolled_at,
        details=subject.details,
        references=found["reference"],
        negatives=found["negative"],
    )


def _unpacked(packed: bytes) -> _Content:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(packed, MAX_CONTENT_BYTES)
        if not inflate.eof:
            raise GalleryError("the file holds more than it may: not limen's")
        return _Content.model_validate_json(text)
    except (zlib.error, ValidationError) as error:
        raise GalleryError(
            "the file's content is not what this limen reads: update limen"
        ) from error


def _enrolments(content: _Content) -> list[Enrolment]:
    return [
        Enrolment(
            subject_id=subject.subject_id,
            embeddings=_rows(subject.references),
            qualities=[template.quality for template in subject.references],
            enrolled_at=subject.enrolled_at,
            details=subject.details,
            negatives=_rows(subject.negatives) if subject.negatives else None,
        )
        for subject in content.subjects
        if subject.references
    ]


def _rows(templates: Sequence[_Template]) -> NDArray[np.float32]:
    try:
        blobs = [base64.b64decode(template.embedding, validate=True) for template in templates]
        rows = np.stack([np.frombuffer(blob, STORED) for blob in blobs]).astype(np.float32)
    except ValueError as error:
        raise GalleryError("the file holds a template that is none") from error
    return checked_embeddings(rows)


def _encoded(row: NDArray[np.float32]) -> str:
    return base64.b64encode(row.astype(STORED).tobytes()).decode()


def _sealer(passphrase: Passphrase, header: _Header) -> Sealer:
    cost = KdfCost.from_json(header.cost)
    return Sealer(
        derived_key(stretched(passphrase.text, bytes.fromhex(header.salt), cost), "subjects file")
    )


def as_json(sealed: Sealed) -> dict[str, Any]:
    """What may be told of a file before it is opened."""
    return {
        "signer": sealed.signer,
        "model_id": sealed.header.model_id,
        "made_at": sealed.header.made_at,
    }
