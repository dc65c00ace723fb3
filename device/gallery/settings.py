"""Small sealed values that belong to a gallery: who its owner is, whose exports it trusts."""

from __future__ import annotations

import json
from typing import Any

from limen.device.gallery.sealing import context
from limen.device.gallery.store import Execute, Store


def read_setting(store: Store, execute: Execute, name: str) -> Any:
    """The value, as JSON gives it; None where there is none."""
    row = execute("SELECT sealed FROM setting WHERE name = ?", (name,)).fetchone()
    return json.loads(store.vault.records.open(row[0], context("setting", name))) if row else None


def write_setting(store: Store, execute: Execute, name: str, value: Any) -> None:
    """Keep a value, in the transaction under way."""
    sealed = store.vault.records.seal(json.dumps(value).encode(), context("setting", name))
    execute("INSERT OR REPLACE INTO setting (name, sealed) VALUES (?, ?)", (name, sealed))
