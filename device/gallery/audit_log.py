"""The audit log as the rest of limen sees it."""

from __future__ import annotations

from datetime import datetime, timedelta

from limen.device.gallery import audit
from limen.device.gallery.erasure import purge
from limen.device.gallery.records import find_subject
from limen.device.gallery.store import Store


class AuditLog:
    """Who did what, and what the door did; append-only, chained, its head signed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def entries(self) -> list[audit.AuditEntry]:
        """All entries, oldest first. AuditError for one that does not open."""
        with self._store.reading():
            return list(audit.entries(self._store.connection, self._store.vault))

    def note(self, kind: str, detail: dict[str, object], subject_id: str | None = None) -> None:
        """Add an entry. A subject's id is readable in it until the subject is erased."""
        with self._store.writing(door=False) as execute:
            subject = find_subject(self._store, execute, subject_id) if subject_id else None
            self._store.note(
                kind,
                detail,
                subject=subject.key if subject else None,
                personal={"subject_id": subject.subject_id} if subject else None,
            )

    def head(self) -> tuple[int, str]:
        """The last entry's number and hash, to be noted elsewhere."""
        with self._store.reading():
            number, link = audit.head(self._store.connection)
        return number, link.hex()

    def verify(self, expected: tuple[int, str] | None = None) -> int:
        """Check the log; return how many entries it has. AuditError with the first wrong one.

        expected: a head noted earlier, which must be in the chain.
        """
        with self._store.reading():
            return audit.verify(self._store.connection, self._store.vault, expected)

    def prune(self, keep: dict[str, timedelta], now: datetime) -> int:
        """Empty entries whose kind's time is over; how many. now: with a time zone."""
        with self._store.writing(door=False) as execute:
            over = audit.prune(self._store.connection, self._store.vault, keep, now)
            if over:
                self._store.note("pruned", {"entries": audit.ranges(over)})
                execute("UPDATE door SET purge_due = 1")
        if over:
            purge(self._store)
        return len(over)
