"""Sealing a bundle: the same parts give the same bytes, on any machine, at any time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from limen.archive import write_archive
from limen.bundle import MANIFEST, parse_bundle
from limen.errors import BundleError
from limen.files import write_atomically
from limen.manifest import Manifest
from limen.signing import (
    MAX_SIGNATURES,
    SIGNATURES,
    Signature,
    decode_signatures,
    encode_signatures,
    sign,
)


def digest(content: bytes) -> str:
    """SHA-256, as a manifest writes it."""
    return hashlib.sha256(content).hexdigest()


def seal_bundle(manifest: Manifest, parts: Mapping[str, bytes]) -> bytes:
    """Return a bundle's bytes: the manifest first, then `parts` by name, stored, without times.

    BundleError where `parts` are not the manifest's, or the result cannot be opened again, which
    is tried before it is returned.
    """
    announced = {part.path for part in manifest.parts()}
    if announced != set(parts):
        odd = sorted(announced ^ set(parts))
        raise BundleError(
            f"the manifest names {len(announced)} parts and {len(parts)} were given; "
            f"they differ in {', '.join(odd)}"
        )
    values = manifest.model_dump(mode="json")
    text = json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    sealed = write_archive([(MANIFEST, text.encode()), *sorted(parts.items())])
    parse_bundle(sealed, f"the new bundle '{manifest.name}'")
    return sealed


def write_bundle(path: Path, manifest: Manifest, parts: Mapping[str, bytes]) -> None:
    """Seal a bundle into `path`, which holds the old file or the new one, whole, at any time."""
    sealed = seal_bundle(manifest, parts)
    with write_atomically(path) as file:
        file.write(sealed)


def signed(content: bytes, key: Ed25519PrivateKey, name: str) -> tuple[bytes, Signature]:
    """A bundle's bytes with one signature more, or the key's old one replaced; and that signature.

    Nothing but the signatures changes. BundleError where the bundle is not whole, or carries as
    many signatures as it may.
    """
    bundle = parse_bundle(content, name)
    manifest = bytes(bundle.part(MANIFEST))
    added = sign(manifest, key)
    kept = tuple(s for s in bundle.signatures if s.key_id != added.key_id)
    if len(kept) >= MAX_SIGNATURES:
        raise BundleError(f"{name}: carries {len(kept)} signatures already; no more fit")
    signatures = encode_signatures((*kept, added))
    decode_signatures(signatures, name)
    parts = [(part.path, bytes(bundle.part(part.path))) for part in bundle.manifest.parts()]
    result = write_archive([(MANIFEST, manifest), *sorted([*parts, (SIGNATURES, signatures)])])
    parse_bundle(result, name)
    return result, added


def write_digest(path: Path) -> Path:
    """Write a file's SHA-256 to 'PATH.sha256', as `sha256sum` does, and return where.

    The bundle that ships inside the package is held to it.
    """
    target = path.with_name(path.name + ".sha256")
    with write_atomically(target) as file:
        file.write(f"{digest(path.read_bytes())}  {path.name}\n".encode())
    return target
