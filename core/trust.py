"""Which bundles a board believes: its trusted keys, and what it remembers against going back.

Without trusted keys a board opens any whole bundle. As soon as there is one, a bundle must be
signed by a trusted key, and no older than the newest of its name and key that was opened here.
The bundle that ships with limen is believed with limen itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.errors import KeyFileError, UntrustedBundleError
from limen.files import write_atomically
from limen.manifest import LAST_SEQUENCE, Manifest
from limen.signing import PublicKey, Signature, is_signed_by, load_public_key

KEYS_VARIABLE = "LIMEN_TRUSTED_KEYS"
SYSTEM_KEYS = Path("/etc/limen/trusted-keys")
MEMORY_FILE = "bundles.json"
MAX_KEYS = 64
MAX_MEMORY_BYTES = 256 * 2**10

_Sequence = Annotated[int, Field(ge=0, le=LAST_SEQUENCE)]


class _Memory(BaseModel):
    """The highest sequence seen, by 'key id/bundle name'."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    highest: dict[str, _Sequence] = Field(default_factory=dict, max_length=1024)


@dataclass(frozen=True, slots=True)
class Trust:
    """keys: whose signatures count, none for no demand; memory: the file of what was opened."""

    keys: tuple[PublicKey, ...] = ()
    memory: Path | None = None

    def check(
        self, manifest: Manifest, raw_manifest: bytes, signatures: tuple[Signature, ...], name: str
    ) -> PublicKey | None:
        """Return the trusted key that signed the bundle, or None where none is demanded.

        UntrustedBundleError with the reason. Nothing is remembered yet.
        """
        if not self.keys:
            return None
        key = self._signer(raw_manifest, signatures, name)
        if self.memory is not None:
            highest = _read(self.memory).highest.get(_entry(key, manifest), 0)
            if manifest.sequence < highest:
                raise UntrustedBundleError(
                    f"{name}: this is an older '{manifest.name}' (sequence {manifest.sequence}) "
                    f"than one opened here before ({highest}). If you mean to go back, remove its "
                    f"line from {self.memory}"
                )
        return key

    def remember(self, manifest: Manifest, key: PublicKey) -> None:
        """Keep the bundle's sequence, so that no older one is opened from now on.

        Only what a trusted key signed comes here: nobody else can raise the mark.
        UntrustedBundleError where the memory cannot be written: it would not be noticed later.
        """
        if self.memory is None:
            return
        old, entry = _read(self.memory).highest, _entry(key, manifest)
        if old.get(entry, -1) >= manifest.sequence:
            return
        values = _Memory(highest={**old, entry: manifest.sequence}).model_dump(mode="json")
        try:
            with write_atomically(self.memory) as file:
                file.write((json.dumps(values, sort_keys=True, indent=1) + "\n").encode())
        except OSError as error:
            raise UntrustedBundleError(
                f"{self.memory}: what was opened cannot be remembered ({error.strerror}), so an "
                "older bundle would pass later; make the folder writable for this user"
            ) from error

    def _signer(
        self, raw_manifest: bytes, signatures: tuple[Signature, ...], name: str
    ) -> PublicKey:
        by_id = {key.key_id: key for key in self.keys}
        claimed = [s for s in signatures if s.key_id in by_id]
        for signature in claimed:
            if is_signed_by(raw_manifest, signature, by_id[signature.key_id]):
                return by_id[signature.key_id]
        trusted = ", ".join(sorted(by_id))
        if claimed:
            raise UntrustedBundleError(
                f"{name}: the signature of key {claimed[0].key_id} is wrong: the bundle was "
                "changed after it was signed. Do not use it; fetch it again from its maker"
            )
        if signatures:
            found = ", ".join(s.key_id for s in signatures)
            raise UntrustedBundleError(
                f"{name}: signed by {found}, trusted here is {trusted}. If you know its maker, "
                "put that public key beside the trusted ones"
            )
        raise UntrustedBundleError(
            f"{name}: not signed, but a signature by {trusted} is demanded here; sign it with "
            "'limen bundle sign', or fetch a signed one"
        )


NO_TRUST = Trust()


def board_trust(environment: Mapping[str, str] = os.environ) -> Trust:
    """This board's trust: every '*.pub' of its folder of trusted keys.

    The folder is $LIMEN_TRUSTED_KEYS, else /etc/limen/trusted-keys, else
    $XDG_CONFIG_HOME/limen/trusted-keys; the memory is bundles.json in $STATE_DIRECTORY (which
    systemd sets), else $XDG_STATE_HOME/limen. KeyFileError where a named folder is missing or holds
    no key, or where a key in it cannot be read: a demand for signatures is never dropped silently.
    """
    named = environment.get(KEYS_VARIABLE)
    home = Path(environment.get("HOME") or Path.home())
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    folders = [Path(named)] if named else [SYSTEM_KEYS, config / "limen" / "trusted-keys"]
    for folder in folders:
        if named or os.path.lexists(folder):
            return Trust(keys_in(folder), _memory_path(environment, home))
    return NO_TRUST


def keys_in(folder: Path) -> tuple[PublicKey, ...]:
    """The public keys in a folder. KeyFileError where there is none, or one cannot be read."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".pub")
    except OSError as error:
        raise KeyFileError(
            f"{folder}: the trusted keys cannot be read ({error.strerror}); no bundle is opened "
            "until they can"
        ) from error
    if not 1 <= len(files) <= MAX_KEYS:
        raise KeyFileError(
            f"{folder}: expected 1 to {MAX_KEYS} trusted keys (*.pub), found {len(files)}; put one "
            "there, or remove the folder to demand no signatures"
        )
    return tuple(load_public_key(path) for path in files)


def _memory_path(environment: Mapping[str, str], home: Path) -> Path:
    of_service = environment.get("STATE_DIRECTORY")
    if of_service:
        return Path(of_service.split(":")[0]) / MEMORY_FILE
    state = Path(environment.get("XDG_STATE_HOME") or home / ".local" / "state")
    return state / "limen" / MEMORY_FILE


def _entry(key: PublicKey, manifest: Manifest) -> str:
    return f"{key.key_id}/{manifest.name}"


def _read(path: Path) -> _Memory:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_MEMORY_BYTES + 1)
    except FileNotFoundError:
        return _Memory()
    except OSError as error:
        raise UntrustedBundleError(
            f"{path}: what was opened before cannot be read ({error.strerror}); make it readable"
        ) from error
    try:
        return _Memory.model_validate_json(content)
    except ValidationError as error:
        raise UntrustedBundleError(
            f"{path}: what was opened before is damaged; restore the file, or remove it once you "
            "are sure of the bundle"
        ) from error
