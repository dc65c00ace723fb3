"""A gallery's keys, opened: what seals records, what signs, and what finds a subject.

    key file or passphrase ── opens ──> data key ──> records, tags
                                            └─ opens ──> log key, signing key, subjects' audit keys

The data key changes with every `rekey`; the log key and the audit keys do not, because the audit
log's hash chain runs over what they sealed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from limen.device.gallery.keys import (
    SALT_BYTES,
    GalleryKeyError,
    KdfCost,
    KeyFile,
    KeySource,
    read_key_file,
    stretched,
)
from limen.device.gallery.sealing import (
    KEY_BYTES,
    DamagedRecordError,
    Sealer,
    context,
    derived_key,
)

UID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Keyring:
    """The row that opens a gallery: how its key is made from the owner's secret, and what it seals."""

    kind: str
    salt: bytes
    cost: str
    sealed_data_key: bytes
    sealed_log_key: bytes
    sealed_signing_key: bytes

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Self:
        """The keyring of an opened file. GalleryKeyError where it has none."""
        row = connection.execute(
            "SELECT kind, salt, cost, sealed_data_key, sealed_log_key, sealed_signing_key"
            " FROM keyring"
        ).fetchone()
        if row is None:
            raise GalleryKeyError("the gallery has lost its keyring: put back a backup")
        return cls(*row)

    def write(self, connection: sqlite3.Connection) -> None:
        """Put this keyring in the place of the one before, in the transaction under way."""
        connection.execute(
            "INSERT OR REPLACE INTO keyring VALUES (1, ?, ?, ?, ?, ?, ?)",
            (
                self.kind,
                self.salt,
                self.cost,
                self.sealed_data_key,
                self.sealed_log_key,
                self.sealed_signing_key,
            ),
        )


class Vault:
    """The opened keys of one gallery. gallery_uid: 16 random bytes, for its whole life."""

    def __init__(self, gallery_uid: bytes, data_key: bytes, log_key: bytes, signing: bytes) -> None:
        self.gallery_uid = gallery_uid
        self.records = Sealer(derived_key(data_key, "records"))
        self.log = Sealer(log_key)
        self.signing_key = Ed25519PrivateKey.from_private_bytes(signing)
        self._tag_key = derived_key(data_key, "subject tags")
        self._log_key, self._signing, self._data_key = log_key, signing, data_key

    @classmethod
    def new(cls) -> Self:
        """The keys of a new gallery."""
        return cls(*(secrets.token_bytes(n) for n in (UID_BYTES, KEY_BYTES, KEY_BYTES, KEY_BYTES)))

    @classmethod
    def open(cls, gallery_uid: bytes, ring: Keyring, source: KeySource) -> Self:
        """Open the keys. GalleryKeyError where `source` is not what sealed them."""
        if ring.kind != source.kind:
            wanted = "a passphrase" if ring.kind == "passphrase" else "a key file"
            raise WrongKindOfKeyError(
                f"this gallery opens with {wanted}: name it with "
                f"{'LIMEN_PASSPHRASE_FILE' if ring.kind == 'passphrase' else '--key'}"
            )
        wrapping = Sealer(_wrapping_key(source, ring.salt, KdfCost.from_json(ring.cost)))
        try:
            data_key = wrapping.open(ring.sealed_data_key, context("data key", gallery_uid))
        except DamagedRecordError as error:
            raise GalleryKeyError(
                f"the {'passphrase' if ring.kind == 'passphrase' else 'key'} is not this gallery's: "
                "use the one it was made with"
            ) from error
        under = Sealer(derived_key(data_key, "keys"))
        return cls(
            gallery_uid,
            data_key,
            under.open(ring.sealed_log_key, context("log key", gallery_uid)),
            under.open(ring.sealed_signing_key, context("signing key", gallery_uid)),
        )

    def ring(self, source: KeySource) -> Keyring:
        """These keys, sealed for `source`."""
        cost = KdfCost() if isinstance(source, KeyFile) else source.cost
        salt = secrets.token_bytes(SALT_BYTES)
        under = Sealer(derived_key(self._data_key, "keys"))
        return Keyring(
            kind=source.kind,
            salt=salt,
            cost=cost.to_json(),
            sealed_data_key=Sealer(_wrapping_key(source, salt, cost)).seal(
                self._data_key, context("data key", self.gallery_uid)
            ),
            sealed_log_key=under.seal(self._log_key, context("log key", self.gallery_uid)),
            sealed_signing_key=under.seal(self._signing, context("signing key", self.gallery_uid)),
        )

    def with_new_data_key(self) -> Vault:
        """The same gallery under another data key."""
        return Vault(self.gallery_uid, secrets.token_bytes(KEY_BYTES), self._log_key, self._signing)

    def tag(self, subject_id: str) -> bytes:
        """What a subject is found by: equal for equal ids, and telling nothing without the key."""
        return hmac.digest(self._tag_key, subject_id.encode("utf-8"), hashlib.sha256)

    def public_key(self) -> bytes:
        """The 32 bytes that check this gallery's signatures (Ed25519, RFC 8032)."""
        return self.signing_key.public_key().public_bytes_raw()


class WrongKindOfKeyError(GalleryKeyError):
    """A passphrase was given where a key file is needed, or the other way round."""


def fingerprint(public_key: bytes) -> str:
    """A public key for people to compare: 16 hexadecimal digits of its SHA-256, in fours."""
    digits = hashlib.sha256(public_key).hexdigest()[:16]
    return "-".join(digits[i : i + 4] for i in range(0, 16, 4))


def _wrapping_key(source: KeySource, salt: bytes, cost: KdfCost) -> bytes:
    if isinstance(source, KeyFile):
        secret = read_key_file(source.path)
    else:
        secret = stretched(source.text, salt, cost)
    return derived_key(secret, "gallery key", salt)
