"""Second factors: PINs and card numbers by subject, kept as salted scrypt hashes in one file.

They are bound to the random number that the gallery gave a subject (its uid), not to its id: whoever
is enrolled later under an id that was given before does not inherit a PIN, a rename needs no second
write, and the file names nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from limen.errors import ConfigError
from limen.files import write_atomically

FactorKind = Literal["pin", "card"]

VERSION = 2
UID_BYTES = 16
MAX_FILE_BYTES = 16 << 20
MAX_ENTRY_CHARACTERS = 64
MAX_FACTORS = 8
# RFC 7914; 16 MiB and a fifth of a second on a small board.
_COST, _BLOCK, _PARALLEL, _HASH_BYTES = 1 << 14, 8, 1, 32
_PIN = re.compile(r"[0-9]{4,12}")
_CARD = re.compile(r"[0-9A-Za-z:-]{4,64}")


@dataclass(frozen=True, slots=True)
class _Factor:
    kind: str
    salt: bytes
    digest: bytes


class SecondFactors:
    """The file of second factors. ConfigError where it is damaged or cannot be read.

    An entry is only ever compared with the factors of the one subject whose face was recognised.
    A missing file holds nobody's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._factors = _read(path)

    def subjects(self) -> dict[bytes, list[str]]:
        """The kinds of factor that each subject has, by uid."""
        return {uid: [f.kind for f in found] for uid, found in sorted(self._factors.items())}

    def add(self, uid: bytes, kind: FactorKind, entry: str) -> None:
        """Keep a factor of a subject; a PIN replaces the last. ConfigError where it is too weak.

        uid: the subject's random number in the gallery, 16 bytes.
        """
        value = _normal(entry)
        if kind == "pin" and (not _PIN.fullmatch(value) or _is_guessable(value)):
            raise ConfigError(
                "expected a PIN of 4 to 12 digits, not one digit repeated and no run such as 1234: "
                "choose another"
            )
        if kind == "card" and not _CARD.fullmatch(value):
            raise ConfigError("expected a card's number of 4 to 64 letters and digits")
        kept = [f for f in self._factors.get(uid, []) if not (kind == "pin" and f.kind == "pin")]
        if len(kept) >= MAX_FACTORS:
            raise ConfigError(f"a subject has at most {MAX_FACTORS} factors: remove some first")
        salt = secrets.token_bytes(16)
        self._write({**self._factors, uid: [*kept, _Factor(kind, salt, _digest(value, salt))]})

    def remove(self, *uids: bytes) -> bool:
        """Forget the factors of these subjects. Whether there were any."""
        left = {uid: found for uid, found in self._factors.items() if uid not in uids}
        if len(left) == len(self._factors):
            return False
        self._write(left)
        return True

    def check(self, uid: bytes, entry: str) -> bool:
        """Whether `entry` is a PIN or card of the subject. As slow for a subject who has none."""
        value = _normal(entry)
        factors = self._factors.get(uid) or [_Factor("pin", b"\0" * 16, b"")]
        # Every factor is tried, so that the time does not tell which one it was.
        tried = [hmac.compare_digest(_digest(value, f.salt), f.digest) for f in factors]
        return any(tried)

    def _write(self, factors: dict[bytes, list[_Factor]]) -> None:
        told = {
            "version": VERSION,
            "subjects": {
                uid.hex(): [
                    {"kind": f.kind, "salt": f.salt.hex(), "scrypt": f.digest.hex()} for f in found
                ]
                for uid, found in factors.items()
            },
        }
        try:
            with write_atomically(self._path, mode=0o600) as file:
                file.write(json.dumps(told, indent=1).encode())
        except OSError as error:
            raise ConfigError(
                f"{self._path}: cannot be written ({error.strerror}); check the folder and the disk"
            ) from error
        self._factors = factors


def _read(path: Path) -> dict[bytes, list[_Factor]]:
    try:
        if not path.exists():
            return {}
        status = os.stat(path)
        if status.st_mode & 0o077:
            raise ConfigError(f"{path}: others may read it; 'chmod 600' it")
        if status.st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: larger than 16 MiB; no file of second factors")
        told: Any = json.loads(path.read_bytes())
        if told["version"] != VERSION:
            raise ConfigError(
                f"{path}: of version {told['version']}, expected {VERSION}: "
                "remove the file and set the factors again ('limen factor set')"
            )
        return {
            _uid(text): [
                _Factor(str(f["kind"]), bytes.fromhex(f["salt"]), bytes.fromhex(f["scrypt"]))
                for f in found
            ]
            for text, found in told["subjects"].items()
        }
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check its owner") from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: damaged; put back a copy, or set the factors again") from error


def _uid(text: str) -> bytes:
    uid = bytes.fromhex(text)
    if len(uid) != UID_BYTES:
        raise ValueError("a uid has 16 bytes")
    return uid


def _normal(entry: str) -> str:
    return entry.strip()[:MAX_ENTRY_CHARACTERS]


def _digest(value: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        value.encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, dklen=_HASH_BYTES
    )


def _is_guessable(pin: str) -> bool:
    steps = {(int(b) - int(a)) % 10 for a, b in pairwise(pin)}
    return steps in ({0}, {1}, {9})
