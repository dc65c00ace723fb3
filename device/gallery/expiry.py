"""When somebody's time may be over at the earliest, so that nobody need be opened to find out."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from limen.device.gallery.settings import read_setting, write_setting
from limen.device.subjects import SubjectDetails

if TYPE_CHECKING:
    from limen.device.gallery.records import StoredSubject
    from limen.device.gallery.store import Execute, Store
    from limen.device.gallery.vault import Vault

# A moment that is never later than the first expiry; "" where nobody has one. Missing: not known.
SETTING = "earliest expiry"


def nobody_expires(execute: Execute, vault: Vault) -> None:
    """Start a gallery in which nobody has an expiry, in the transaction under way."""
    write_setting(vault, execute, SETTING, "")


def note_expiry(store: Store, execute: Execute, details: SubjectDetails) -> None:
    """Take a subject's new details into account, in the transaction under way."""
    if details.expires_at is None:
        return
    bound = read_setting(store.vault, execute, SETTING)
    if bound is None:
        return
    if not bound or details.expires_at < datetime.fromisoformat(bound):
        write_setting(store.vault, execute, SETTING, details.expires_at.isoformat())


def may_be_over(store: Store, execute: Execute, now: datetime) -> bool:
    """Whether anybody's time may be over. now: with a time zone."""
    bound = read_setting(store.vault, execute, SETTING)
    if bound is None:
        return True
    return bool(bound) and now >= datetime.fromisoformat(bound)


def keep_earliest(store: Store, execute: Execute, subjects: list[StoredSubject]) -> None:
    """Note the earliest expiry of all who are left, in the transaction under way."""
    moments = [s.details.expires_at for s in subjects if s.details.expires_at is not None]
    write_setting(store.vault, execute, SETTING, min(moments).isoformat() if moments else "")
