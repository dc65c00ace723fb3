"""Small sealed values that belong to a gallery: who its owner is, whose exports it trusts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from limen.device.gallery.sealing import context

if TYPE_CHECKING:
    from limen.device.gallery.store import Execute
    from limen.device.gallery.vault import Vault


def read_setting(vault: Vault, execute: Execute, name: str) -> Any:
    """The value, as JSON gives it; None where there is none."""
    row = execute("SELECT sealed FROM setting WHERE name = ?", (name,)).fetchone()
    return json.loads(vault.records.open(row[0], context("setting", name))) if row else None


def write_setting(vault: Vault, execute: Execute, name: str, value: Any) -> None:
    """Keep a value, in the transaction under way."""
    sealed = vault.records.seal(json.dumps(value).encode(), context("setting", name))
    execute("INSERT OR REPLACE INTO setting (name, sealed) VALUES (?, ?)", (name, sealed))


def remove_setting(execute: Execute, name: str) -> None:
    """Forget a value, in the transaction under way."""
    execute("DELETE FROM setting WHERE name = ?", (name,))
