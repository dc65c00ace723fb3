"""What a gallery signs: a JSON statement with its Ed25519 signature (RFC 8032)."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from limen.device.gallery.sealing import context
from limen.device.gallery.vault import Vault
from limen.errors import GalleryError


def signed(vault: Vault, kind: str, statement: dict[str, Any]) -> dict[str, Any]:
    """`statement` with its kind, the public key that checks it, and the signature."""
    body = {"kind": kind, **statement, "signed_by": vault.public_key().hex()}
    signature = vault.signing_key.sign(_message(body))
    return {**body, "signature": base64.b64encode(signature).decode()}


def verified(value: dict[str, Any]) -> bytes:
    """The public key that signed a statement. GalleryError where it was edited, or is none."""
    try:
        body = {name: field for name, field in value.items() if name != "signature"}
        public_key = bytes.fromhex(body["signed_by"])
        signature = base64.b64decode(value["signature"], validate=True)
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _message(body))
    except (KeyError, ValueError, TypeError, AttributeError, InvalidSignature) as error:
        raise GalleryError("the statement was edited, or is not a signed one") from error
    return public_key


def _message(body: dict[str, Any]) -> bytes:
    text = json.dumps(body, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return context("statement", text)
