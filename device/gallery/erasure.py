"""Deletion that can be proved: the rows, their bytes in file and log, and a signed receipt."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from limen.device.gallery.backup import listed_backups
from limen.device.gallery.expiry import keep_earliest, may_be_over
from limen.device.gallery.file import plain_errors
from limen.device.gallery.records import StoredSubject, require_subject, stored_subjects
from limen.device.gallery.signing import signed
from limen.device.gallery.store import Execute, Store
from limen.errors import GalleryError


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased. purged: whether the bytes are gone from the file and its log already.

    receipt: a signed JSON statement (see `signing.verified`), which names the subject by the
    random number that the audit log knew it by, and no one else.
    """

    subject_id: str
    references: int
    crops: int
    negatives: int
    purged: bool
    backups: tuple[str, ...]
    receipt: dict[str, Any]


def erase(store: Store, subject_ids: list[str], reason: str) -> list[Erasure]:
    """Erase subjects, all or none. SubjectNotFoundError where nobody has one of the ids.

    Rows, crops, negatives and the key of the audit log's personal fields go in one transaction;
    then the file is rebuilt without free pages and the write-ahead log emptied. Where another
    process is in the middle of its work, that is done by whoever opens the gallery next.
    """
    erased = []
    with store.writing(references=True) as execute:
        for subject_id in dict.fromkeys(subject_ids):
            subject = require_subject(store, execute, subject_id)
            erased.append((subject, _delete(store, execute, subject, reason)))
        execute("UPDATE door SET purge_due = 1")
        model_id = execute("SELECT model_id FROM door").fetchone()[0]
        backups = tuple(listed_backups(store, execute))
    purged = purge(store)
    at = store.clock().isoformat(timespec="seconds")
    return [
        Erasure(
            subject.subject_id,
            **counts,
            purged=purged,
            backups=tuple(backup.path for backup in backups),
            receipt=signed(
                store.vault,
                "erasure receipt",
                {
                    "at": at,
                    "reason": reason,
                    "subject": subject.key.uid.hex(),
                    "model_id": model_id,
                    **counts,
                    "audit_key_destroyed": True,
                    "search_index_key_destroyed": True,
                    "bytes_overwritten": purged,
                    "backups_that_may_hold_copies": [
                        {"path": backup.path, "made_at": backup.made_at} for backup in backups
                    ],
                },
            ),
        )
        for subject, counts in erased
    ]


def erase_expired(store: Store, now: datetime) -> list[Erasure]:
    """Erase everybody whose time is over. Looks at subjects only where somebody's may be."""
    with store.reading() as execute:
        if not may_be_over(store, execute, now):
            return []
        everybody = stored_subjects(store, execute)
    over = [s.subject_id for s in everybody if s.details.is_expired(now)]
    erased = erase(store, over, "expired") if over else []
    # A gallery that is read-only is asked again the next time.
    with contextlib.suppress(GalleryError), store.writing(door=False) as execute:
        keep_earliest(store, execute, stored_subjects(store, execute))
    return erased


def purge(store: Store) -> bool:
    """Rebuild the file without what was deleted, and empty its log; whether that could be done.

    secure_delete overwrites deleted rows with zeros; VACUUM leaves out the free pages; TRUNCATE
    empties the write-ahead log, which held the pages as they were (sqlite.org/pragma.html).
    """
    execute = store.connection.execute
    with plain_errors(store.path):
        try:
            if not _log_is_empty(execute):
                return False
            execute("VACUUM")
            if not _log_is_empty(execute):
                return False
            execute("UPDATE door SET purge_due = 0")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return False
            raise
    return True


def purge_is_due(store: Store) -> bool:
    """Whether deleted records may still lie in free pages."""
    with store.reading() as execute:
        return bool(execute("SELECT purge_due FROM door").fetchone()[0])


def _log_is_empty(execute: Execute) -> bool:
    busy, _, _ = execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _delete(store: Store, execute: Execute, subject: StoredSubject, reason: str) -> dict[str, int]:
    references, crops = execute(
        "SELECT count(*), count(sealed_crop) FROM reference WHERE subject = ?", (subject.row,)
    ).fetchone()
    (negatives,) = execute(
        "SELECT count(*) FROM negative WHERE subject = ?", (subject.row,)
    ).fetchone()
    execute("DELETE FROM subject WHERE id = ?", (subject.row,))
    counts = {"references": references, "crops": crops, "negatives": negatives}
    store.note("erased", {"subject": subject.key.uid.hex(), "reason": reason, **counts})
    return counts
