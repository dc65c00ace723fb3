"""Where a gallery's key comes from: a file, a systemd credential, or a passphrase."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from limen.device.gallery.sealing import KEY_BYTES
from limen.errors import GalleryError
from limen.files import sync_folder

KEY_SUFFIX = ".key"
CREDENTIAL_NAME = "limen-gallery-key"
MIN_PASSPHRASE_CHARACTERS = 12
MAX_PASSPHRASE_BYTES = 1024
MAX_KEY_FILE_BYTES = 1024
SALT_BYTES = 16


class GalleryKeyError(GalleryError):
    """The key is missing, open to others, or not this gallery's."""


@dataclass(frozen=True, slots=True)
class KdfCost:
    """What an Argon2id guess costs. The default is RFC 9106's choice for little memory (4.)."""

    memory_kib: int = 64 * 1024
    iterations: int = 3
    lanes: int = 4

    def to_json(self) -> str:
        return json.dumps([self.memory_kib, self.iterations, self.lanes])

    @classmethod
    def from_json(cls, text: str) -> KdfCost:
        """GalleryKeyError for what is no cost, or one that would exhaust a board."""
        try:
            memory_kib, iterations, lanes = (int(value) for value in json.loads(text))
        except (ValueError, TypeError) as error:
            raise GalleryKeyError("the passphrase's parameters are damaged") from error
        cost = cls(memory_kib, iterations, lanes)
        if not (
            8 * cost.lanes <= cost.memory_kib <= 512 * 1024
            and 1 <= cost.iterations <= 64
            and 1 <= cost.lanes <= 16
        ):
            raise GalleryKeyError("the passphrase's parameters are out of bounds: do not trust it")
        return cost


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file with 64 hexadecimal digits, mode 0600 where limen made it."""

    path: Path

    @property
    def kind(self) -> str:
        return "file"


@dataclass(frozen=True, slots=True)
class Passphrase:
    """A passphrase; its repr does not show it."""

    text: str
    cost: KdfCost = KdfCost()

    @property
    def kind(self) -> str:
        return "passphrase"

    def __repr__(self) -> str:
        return "Passphrase(…)"


KeySource = KeyFile | Passphrase


def default_key(gallery: Path) -> KeyFile:
    """The key file beside a gallery, used where no other key is named."""
    return KeyFile(gallery.with_name(gallery.name + KEY_SUFFIX))


def credential_key() -> KeyFile | None:
    """The key that systemd hands to this service (LoadCredentialEncrypted=), if it does."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / CREDENTIAL_NAME if folder else None
    return KeyFile(path) if path is not None and path.is_file() else None


def new_key_file(path: Path) -> bytes:
    """Make a key in `path`, mode 0600, durable before this returns; or read the one that is there.

    The file appears whole or not at all, and never replaces another.
    """
    secret = secrets.token_bytes(KEY_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secret.hex() + "\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(
                FileExistsError
            ):  # another process made it first: its key counts
                os.link(temporary, path)
        finally:
            os.unlink(temporary)
        sync_folder(path.parent)
    except OSError as error:
        raise GalleryKeyError(
            f"{path}: the gallery's key cannot be made ({error.strerror}): check the folder"
        ) from error
    return read_key_file(path)


def next_key(source: KeyFile) -> KeyFile:
    """Where a new key waits until the gallery is sealed with it."""
    return KeyFile(source.path.with_name(source.path.name + ".next"))


def put_next_key_in_force(source: KeyFile) -> None:
    """Let the key that waited take the old one's place."""
    os.replace(next_key(source).path, source.path)
    sync_folder(source.path.parent)


def read_key_file(path: Path) -> bytes:
    """The 32 bytes in a key file. GalleryKeyError where it is missing, malformed, or not private."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            _check_private(path, os.fstat(file.fileno()))
            content = file.read(MAX_KEY_FILE_BYTES)
    except FileNotFoundError as error:
        raise GalleryKeyError(
            f"{path}: the gallery's key is missing: put back your copy, or name it with --key"
        ) from error
    except OSError as error:
        raise GalleryKeyError(
            f"{path}: the gallery's key cannot be read ({error.strerror}): check its owner and mode"
        ) from error
    try:
        secret = bytes.fromhex(content.decode("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise GalleryKeyError(
            f"{path}: expected a key of {2 * KEY_BYTES} hexadecimal digits: put back your copy"
        )
    return secret


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise GalleryKeyError(f"{path}: expected a key file, found no regular file: check the path")
    if found.st_mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise GalleryKeyError(
            f"{path}: the gallery's key is open to others (mode {stat.S_IMODE(found.st_mode):o}): "
            "run 'chmod 600' on it, and make a new key with 'limen gallery rekey' if it was read"
        )
    if found.st_uid not in (os.geteuid(), 0) and not found.st_mode & stat.S_IRGRP:
        raise GalleryKeyError(
            f"{path}: the gallery's key belongs to another user: change its owner"
        )


def stretched(passphrase: str, salt: bytes, cost: KdfCost) -> bytes:
    """A key of 32 bytes from a passphrase (Argon2id, RFC 9106)."""
    return Argon2id(
        salt=salt,
        length=KEY_BYTES,
        iterations=cost.iterations,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    ).derive(passphrase.encode("utf-8"))


def checked_passphrase(text: str) -> str:
    """A passphrase that may protect something new. GalleryKeyError where it is too short or long."""
    if len(text) < MIN_PASSPHRASE_CHARACTERS or len(text.encode()) > MAX_PASSPHRASE_BYTES:
        raise GalleryKeyError(
            f"a passphrase has at least {MIN_PASSPHRASE_CHARACTERS} characters and at most "
            f"{MAX_PASSPHRASE_BYTES} bytes: four or five words are easy to keep"
        )
    return text
