"""The audit log: who did what, and what the door decided; append-only, chained and signed.

An entry's hash runs over its number, the hash before it and the digests of its sealed fields
(Schneier and Kelsey, Secure Audit Logs, 1999). The last number and hash are signed with the
gallery's Ed25519 key. Personal fields are sealed under a key of the subject's own: when deletion
destroys it they are noise, and the chain still holds. Retention blanks the fields of old entries
and leaves their digests; a later entry, `pruned`, says which, and only those may be blank.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from limen.device.gallery.sealing import DamagedRecordError, Sealer, context
from limen.device.gallery.vault import Vault
from limen.errors import GalleryError

GENESIS = bytes(32)


class AuditError(GalleryError):
    """The audit log was changed, cut or reordered."""


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """A subject's random number (16 bytes), and the key (32 bytes) of its personal fields."""

    uid: bytes
    audit_key: bytes

    def __repr__(self) -> str:
        return "SubjectKey(…)"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry. at: UTC, ISO 8601; kind and detail are None where retention blanked them.

    personal: the subject's fields; None where there are none, or their key was destroyed.
    """

    number: int
    at: str | None
    actor: str | None
    kind: str | None
    detail: dict[str, Any] | None
    personal: dict[str, Any] | None


def append(
    connection: sqlite3.Connection,
    vault: Vault,
    *,
    at: datetime,
    actor: str,
    kind: str,
    detail: dict[str, object],
    subject: SubjectKey | None = None,
    personal: dict[str, object] | None = None,
) -> None:
    """Add an entry and sign the new head, in the transaction under way.

    personal: fields about `subject`, readable until that subject is deleted.
    """
    number, last = head(connection)
    number += 1
    fields = {
        "at": at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "actor": actor,
        "kind": kind,
        "detail": detail,
        "subject": subject.uid.hex() if subject else None,
    }
    bound_to = _entry_context(vault, number)
    body = vault.log.seal(_json(fields), bound_to)
    sealed = None
    if personal is not None and subject is not None:
        sealed = Sealer(subject.audit_key).seal(_json(personal), bound_to)
    digest = _digest(body, sealed)
    link = _link(vault, number, last, digest)
    connection.execute(
        "INSERT INTO audit (number, body, personal, digest, hash) VALUES (?, ?, ?, ?, ?)",
        (number, body, sealed, digest, link),
    )
    connection.execute(
        "INSERT OR REPLACE INTO audit_head (id, number, hash, signature) VALUES (1, ?, ?, ?)",
        (number, link, vault.signing_key.sign(_head_context(vault, number, link))),
    )


def head(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """The last entry's number and hash; 0 and zeros before the first."""
    row = connection.execute("SELECT number, hash FROM audit_head").fetchone()
    return (int(row[0]), bytes(row[1])) if row else (0, GENESIS)


def verify(
    connection: sqlite3.Connection, vault: Vault, expected: tuple[int, str] | None = None
) -> int:
    """Check every entry, the chain and the signed head; return how many entries there are.

    expected: number and hash (hexadecimal) of a head noted earlier, which must be in the chain:
    that finds a log that was put back to an older state. AuditError with the first entry that is
    wrong.
    """
    row = connection.execute("SELECT number, hash, signature FROM audit_head").fetchone()
    if row is None:
        raise AuditError("the audit log has no signed head: it was removed")
    number, last, signature = row
    try:
        key = Ed25519PublicKey.from_public_bytes(vault.public_key())
        key.verify(signature, _head_context(vault, number, last))
    except InvalidSignature as error:
        raise AuditError("the audit log's head is not signed by this gallery") from error
    previous, count = GENESIS, 0
    blank: set[int] = set()
    pruned: set[int] = set()
    rows = connection.execute(
        "SELECT number, body, personal, digest, hash FROM audit ORDER BY number"
    )
    for found, body, personal, digest, link in rows:
        count += 1
        if found != count:
            raise AuditError(f"audit entry {count} was removed or moved (found number {found})")
        if link != _link(vault, count, previous, digest):
            raise AuditError(f"audit entry {count} does not follow from the one before it")
        if body is None:
            blank.add(count)
        else:
            if digest != _digest(body, personal):
                raise AuditError(f"audit entry {count} was changed")
            entry = _opened_body(vault, count, body)
            if entry["kind"] == "pruned":
                pruned.update(_numbers(entry["detail"]["entries"]))
        if expected is not None and expected[0] == count and expected[1] != link.hex():
            raise AuditError(f"audit entry {count} is not the one whose hash was noted")
        previous = link
    if (count, previous) != (number, last):
        raise AuditError(f"the audit log ends at entry {count}, its signed head says {number}")
    if blank - pruned:
        raise AuditError(f"audit entry {min(blank - pruned)} was emptied")
    if expected is not None and expected[0] > count:
        raise AuditError(f"the audit log ends at entry {count}; entry {expected[0]} was noted")
    return count


def entries(connection: sqlite3.Connection, vault: Vault) -> Iterator[AuditEntry]:
    """All entries, oldest first. AuditError for one that does not open."""
    keys = _audit_keys(connection, vault)
    rows = connection.execute("SELECT number, body, personal FROM audit ORDER BY number").fetchall()
    for number, body, personal in rows:
        if body is None:
            yield AuditEntry(number, None, None, None, None, None)
            continue
        fields = _opened_body(vault, number, body)
        yield AuditEntry(
            number=number,
            at=fields["at"],
            actor=fields["actor"],
            kind=fields["kind"],
            detail=fields["detail"],
            personal=_opened_personal(vault, number, personal, keys.get(fields["subject"])),
        )


def prune(
    connection: sqlite3.Connection, vault: Vault, keep: dict[str, timedelta], now: datetime
) -> list[int]:
    """Blank the entries whose kind's time is over, in the transaction under way; their numbers.

    keep: how long, by kind; a kind that is not named stays. The caller appends `pruned`.
    """
    over = []
    rows = connection.execute("SELECT number, body FROM audit WHERE body IS NOT NULL").fetchall()
    for number, body in rows:
        fields = _opened_body(vault, number, body)
        longest = keep.get(fields["kind"])
        if longest is None or fields["kind"] == "pruned":
            continue
        if now - datetime.fromisoformat(fields["at"]) > longest:
            over.append(number)
    connection.executemany(
        "UPDATE audit SET body = NULL, personal = NULL WHERE number = ?", [(n,) for n in over]
    )
    return over


def ranges(numbers: list[int]) -> list[list[int]]:
    """Numbers, rising, as pairs of first and last."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def _numbers(pairs: list[list[int]]) -> Iterator[int]:
    for first, last in pairs:
        yield from range(first, last + 1)


def _audit_keys(connection: sqlite3.Connection, vault: Vault) -> dict[str, Sealer]:
    rows = connection.execute("SELECT uid, sealed_audit_key FROM subject").fetchall()
    return {
        uid.hex(): Sealer(vault.records.open(sealed, context("audit key", uid)))
        for uid, sealed in rows
    }


def _opened_body(vault: Vault, number: int, body: bytes) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads(vault.log.open(body, _entry_context(vault, number)))
    except DamagedRecordError as error:
        raise AuditError(f"audit entry {number} was changed") from error
    return fields


def _opened_personal(
    vault: Vault, number: int, personal: bytes | None, key: Sealer | None
) -> dict[str, Any] | None:
    if personal is None or key is None:  # without a key: the subject was deleted
        return None
    try:
        fields: dict[str, Any] = json.loads(key.open(personal, _entry_context(vault, number)))
    except DamagedRecordError as error:
        raise AuditError(f"audit entry {number} was changed") from error
    return fields


def _entry_context(vault: Vault, number: int) -> bytes:
    return context("audit entry", vault.gallery_uid, number.to_bytes(8, "big"))


def _head_context(vault: Vault, number: int, link: bytes) -> bytes:
    return context("audit head", vault.gallery_uid, number.to_bytes(8, "big"), link)


def _digest(body: bytes, personal: bytes | None) -> bytes:
    return hashlib.sha256(body).digest() + hashlib.sha256(personal or b"").digest()


def _link(vault: Vault, number: int, previous: bytes, digest: bytes) -> bytes:
    parts = (vault.gallery_uid, number.to_bytes(8, "big"), previous, digest)
    return hashlib.sha256(context("audit link", *parts)).digest()


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
