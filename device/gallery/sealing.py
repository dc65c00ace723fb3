"""Sealed records: AES-256-GCM with a fresh nonce each, bound to the place where they belong.

A record's context names what it is and whose it is, so a record that was moved to another subject,
another model or another table does not open (NIST SP 800-38D: additional authenticated data).
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from limen.errors import GalleryError

KEY_BYTES = 32
# Random nonces of 96 bits: at most 2**32 records under one key (SP 800-38D, 8.3); a gallery's
# million references, sealed again a thousand times, stay below it, and 'rekey' starts afresh.
NONCE_BYTES = 12
TAG_BYTES = 16
# Part of every context: a record of another format never opens as one of this.
RECORD_FORMAT = b"limen record 1"


class DamagedRecordError(GalleryError):
    """A sealed record was changed, moved, cut, or sealed with another key."""


def context(kind: str, *parts: bytes | str) -> bytes:
    """The authenticated context of a record: its kind, and what it belongs to.

    Each part carries its length, so that no two lists of parts give the same bytes.
    """
    encoded = [
        RECORD_FORMAT,
        kind.encode(),
        *(p.encode() if isinstance(p, str) else p for p in parts),
    ]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


class Sealer:
    """Seals and opens bytes under one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, content: bytes, bound_to: bytes) -> bytes:
        """Nonce, ciphertext and tag: 28 bytes more than `content`."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, content, bound_to)

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """What was sealed. DamagedRecordError where the record does not belong here."""
        try:
            return self._aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
        except (InvalidTag, ValueError) as error:
            raise DamagedRecordError(
                "a sealed record is damaged or not in its place: put back a backup, or enrol again"
            ) from error


def derived_key(secret: bytes, purpose: str, salt: bytes | None = None) -> bytes:
    """A key of 32 bytes for one purpose (HKDF-SHA256, RFC 5869)."""
    return HKDF(hashes.SHA256(), KEY_BYTES, salt, f"limen {purpose}".encode()).derive(secret)
