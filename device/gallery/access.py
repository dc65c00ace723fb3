"""Who may change a gallery: an owner, and operators with rights.

The rights guard what limen's own verbs do. Whoever may write the file and read its key could do
without them: on the board, file permissions and a unix group carry the rest (docs/security.md).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from limen.device.gallery.keys import (
    SALT_BYTES,
    KdfCost,
    Passphrase,
    checked_passphrase,
    stretched,
)
from limen.device.gallery.settings import read_setting, write_setting
from limen.device.gallery.store import Execute, Store
from limen.device.subjects import checked_subject_id
from limen.errors import GalleryError

OWNER = "owner"
_PEOPLE = "access"
MAX_OPERATORS = 100


class Right(StrEnum):
    """What needs the owner, or an operator who has it. Everything else reads."""

    ENROL = "enrol"
    DELETE = "delete"
    EXPORT = "export"
    CALIBRATE = "calibrate"
    OPEN = "open"
    """Opening the door by hand."""


class AccessError(GalleryError):
    """The passphrase is wrong or missing, or the operator lacks the right."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody with rights. The owner has them all, and alone may say who else has."""

    name: str
    rights: tuple[Right, ...]


def operators(store: Store) -> list[Operator]:
    """The owner first, then the others by name. Empty where nobody owns the gallery yet."""
    with store.reading() as execute:
        people = _read(store, execute)
    found = [
        Operator(name, tuple(Right) if name == OWNER else tuple(map(Right, entry["rights"])))
        for name, entry in people.items()
    ]
    return sorted(found, key=lambda operator: (operator.name != OWNER, operator.name))


def set_owner(store: Store, new: Passphrase) -> None:
    """Make the owner, or change the owner's passphrase. Ask `require` first where there is one."""
    with store.writing(door=False) as execute:
        people = _read(store, execute)
        people[OWNER] = _entry(new, ())
        write_setting(store.vault, execute, _PEOPLE, people)
        store.note("owner set")


def add_operator(
    store: Store, name: str, passphrase: Passphrase, rights: Collection[Right]
) -> None:
    """Add or replace an operator. AccessError for the owner's name, or before there is an owner."""
    name = checked_subject_id(name)
    with store.writing(door=False) as execute:
        people = _read(store, execute)
        if OWNER not in people:
            raise AccessError("nobody owns this gallery yet: run 'limen owner set' first")
        if name == OWNER:
            raise AccessError("'owner' is the owner's name: choose another")
        if len(people) >= MAX_OPERATORS:
            raise AccessError(f"a gallery has at most {MAX_OPERATORS} operators: remove one")
        people[name] = _entry(passphrase, sorted(set(rights)))
        write_setting(store.vault, execute, _PEOPLE, people)
        store.note("operator added", {"operator": name, "rights": sorted(set(rights))})


def remove_operator(store: Store, name: str) -> None:
    """Take an operator's rights away. AccessError where there is no such operator."""
    with store.writing(door=False) as execute:
        people = _read(store, execute)
        if name == OWNER or name not in people:
            raise AccessError("there is no such operator: 'limen owner list' says who there is")
        del people[name]
        write_setting(store.vault, execute, _PEOPLE, people)
        store.note("operator removed", {"operator": name})


def has_owner(store: Store) -> bool:
    """Whether rights are asked for at all."""
    with store.reading() as execute:
        return OWNER in _read(store, execute)


def require(store: Store, name: str, passphrase: str, right: Right | None) -> None:
    """Let `name` act from now on, and the audit log say so.

    right: None for what only the owner may do. AccessError for an unknown name, a wrong passphrase
    (which of the two is not told), or a right that is missing.
    """
    with store.reading() as execute:
        entry = _read(store, execute).get(name)
    if entry is None:
        # As slow as a wrong passphrase, so that names cannot be found out by the clock.
        stretched(passphrase, bytes(SALT_BYTES), KdfCost())
        raise AccessError("the name or the passphrase is wrong: try again")
    found = stretched(passphrase, bytes.fromhex(entry["salt"]), KdfCost.from_json(entry["cost"]))
    if not hmac.compare_digest(found, bytes.fromhex(entry["verifier"])):
        raise AccessError("the name or the passphrase is wrong: try again")
    if name != OWNER and (right is None or right not in entry["rights"]):
        raise AccessError(
            f"'{name}' may not {right or 'manage operators'} here: ask the owner for that right"
        )
    store.actor = name


def _entry(passphrase: Passphrase, rights: Collection[str]) -> dict[str, Any]:
    text = checked_passphrase(passphrase.text)
    salt = secrets.token_bytes(SALT_BYTES)
    return {
        "salt": salt.hex(),
        "cost": passphrase.cost.to_json(),
        "verifier": stretched(text, salt, passphrase.cost).hex(),
        "rights": list(rights),
    }


def _read(store: Store, execute: Execute) -> dict[str, dict[str, Any]]:
    people: dict[str, dict[str, Any]] = read_setting(store.vault, execute, _PEOPLE) or {}
    return people
