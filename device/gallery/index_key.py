"""The key of the search index: kept in the gallery, destroyed by whatever the index must not survive.

The index holds copies of templates, in a file of its own. It is sealed under a random key that lies,
sealed, in the gallery: an erasure destroys the key in its own transaction, and with it every copy of
the index, wherever it lies. Other changes are noted beside the key by the row of the subject, and
whoever opens the index replaces those rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limen.device.gallery.settings import read_setting, remove_setting, write_setting

if TYPE_CHECKING:
    from limen.device.gallery.store import Execute
    from limen.device.gallery.vault import Vault

SETTING = "search index"
# Beyond, it is quicker to make the index anew than to replace so many rows at each start.
MAX_CHANGED = 2_000


@dataclass(frozen=True, slots=True)
class IndexKey:
    """What opens the index, and the rows of subjects that changed since it was made."""

    key: bytes
    changed: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return "IndexKey(…)"


def read_index_key(execute: Execute, vault: Vault) -> IndexKey | None:
    """The key of the index; None where there is no index that counts."""
    told = read_setting(vault, execute, SETTING)
    if told is None:
        return None
    return IndexKey(bytes.fromhex(told["key"]), tuple(told["changed"]))


def write_index_key(execute: Execute, vault: Vault, key: IndexKey) -> None:
    """Put a key in force, in the transaction under way."""
    told = {"key": key.key.hex(), "changed": list(key.changed)}
    write_setting(vault, execute, SETTING, told)


def destroy_index_key(execute: Execute) -> None:
    """Make every copy of the index unreadable, when the transaction under way is committed."""
    remove_setting(execute, SETTING)


def note_changed(execute: Execute, vault: Vault, rows: Collection[int]) -> None:
    """Note that these subjects are no longer as the index has them, in the transaction under way."""
    key = read_index_key(execute, vault)
    if key is None:
        return
    changed = sorted({*key.changed, *rows})
    if len(changed) > MAX_CHANGED:
        destroy_index_key(execute)
    else:
        write_index_key(execute, vault, IndexKey(key.key, tuple(changed)))
