"""Signatures over bundles: Ed25519 (RFC 8032), by the `cryptography` package.

What is signed is a bundle's manifest, byte for byte, behind a context of limen's own, so that a
signature made for anything else is none here. The manifest names every part by its SHA-256, so it
answers for them all. Signatures lie beside it in `signatures.json`; a bundle may carry several.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.errors import BundleError, KeyFileError
from limen.files import write_atomically

SIGNATURES = "signatures.json"
MAX_SIGNATURES = 8
MAX_SIGNATURES_BYTES = 8 * 2**10
MAX_KEY_BYTES = 16 * 2**10
CONTEXT = b"limen bundle manifest, version 1\0"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked with. `label` says where it came from, for messages."""

    raw: bytes
    label: str

    @property
    def key_id(self) -> str:
        """The first 16 hexadecimal digits of the raw key's SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]


class Signature(BaseModel):
    """One signature, and whose it says it is. The claim counts for nothing until it is checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["ed25519"] = "ed25519"
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class _Signatures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    signatures: tuple[Signature, ...] = Field(max_length=MAX_SIGNATURES)


def sign(manifest: bytes, key: Ed25519PrivateKey) -> Signature:
    """Sign a bundle's manifest as it lies in the archive."""
    return Signature(key_id=public_key_of(key).key_id, signature=key.sign(CONTEXT + manifest).hex())


def is_signed_by(manifest: bytes, signature: Signature, key: PublicKey) -> bool:
    """Whether `signature` is `key`'s over these very bytes."""
    if signature.key_id != key.key_id:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(
            bytes.fromhex(signature.signature), CONTEXT + manifest
        )
    except InvalidSignature:
        return False
    return True


def encode_signatures(signatures: tuple[Signature, ...]) -> bytes:
    """As they lie in a bundle."""
    values = _Signatures(signatures=signatures).model_dump(mode="json")
    return (json.dumps(values, sort_keys=True, indent=1) + "\n").encode()


def decode_signatures(content: bytes, name: str) -> tuple[Signature, ...]:
    """Read a bundle's signatures. BundleError where they are damaged or too many."""
    if len(content) > MAX_SIGNATURES_BYTES:
        raise BundleError(f"{name}: {SIGNATURES} is larger than {MAX_SIGNATURES_BYTES} bytes")
    try:
        return _Signatures.model_validate_json(content).signatures
    except ValidationError as error:
        raise BundleError(
            f"{name}: {SIGNATURES} is damaged; copy the bundle again, or sign it again"
        ) from error


def public_key_of(key: Ed25519PrivateKey, label: str = "the signing key") -> PublicKey:
    """The public half."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return PublicKey(raw, label)


def generate_key_pair(path: Path, passphrase: bytes | None = None) -> tuple[Path, PublicKey]:
    """Write a new private key to `path` and its public half beside it, with '.pub' behind.

    PEM: PKCS 8, encrypted where a passphrase is given, for its owner's eyes only (mode 0600), and
    SubjectPublicKeyInfo. Returns the public file and key. KeyFileError where a file is there
    already: a key is never overwritten.
    """
    public = path.with_name(path.name + ".pub")
    for taken in (path, public):
        if os.path.lexists(taken):
            raise KeyFileError(
                f"{taken} is there already; a key is never overwritten: name another"
            )
    key = Ed25519PrivateKey.generate()
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    try:
        with write_atomically(path, mode=0o600) as file:
            file.write(private)
        with write_atomically(public) as file:
            file.write(
                key.public_key().public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            )
    except OSError as error:
        raise KeyFileError(f"{path}: the key cannot be written ({error.strerror})") from error
    return public, public_key_of(key, str(public))


def load_private_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Read a private key. KeyFileError where it is missing, of another kind, or locked."""
    content = _read_key(path)
    try:
        key = serialization.load_pem_private_key(content, passphrase)
    except TypeError as error:  # what cryptography raises for a passphrase too many or too few
        needed = "needs its passphrase" if passphrase is None else "has no passphrase"
        raise KeyFileError(f"{path}: the key {needed}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        why = "the passphrase is wrong, or it is damaged" if passphrase else "it is damaged"
        raise KeyFileError(
            f"{path}: no private key can be read ({why}); expected one of 'limen bundle keygen'"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: expected an Ed25519 key; make one with 'limen bundle keygen'")
    return key


def load_public_key(path: Path) -> PublicKey:
    """Read a public key. KeyFileError where it is missing or of another kind."""
    content = _read_key(path)
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{path}: no public key can be read; expected the .pub file of 'limen bundle keygen'"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path}: expected an Ed25519 key; make one with 'limen bundle keygen'")
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return PublicKey(raw, str(path))


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: the key cannot be read ({error.strerror})") from error
    if len(content) > MAX_KEY_BYTES:
        raise KeyFileError(f"{path}: larger than {MAX_KEY_BYTES // 2**10} KiB; not a key")
    return content
