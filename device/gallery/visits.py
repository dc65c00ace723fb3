"""Guided visits in the file: sealed, a setting a subject, erased with the subject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from limen.device.gallery.records import require_subject, stored_subjects
from limen.device.gallery.settings import read_setting, remove_setting, write_setting
from limen.device.kept_visits import KeptVisit
from limen.errors import GalleryError

if TYPE_CHECKING:
    from limen.device.gallery.store import Execute, Store

# Of one person, the newest; enough for a year of seasons, and bounded on the card.
MAX_VISITS = 40


def keep_visits(store: Store, execute: Execute, visits: dict[str, list[KeptVisit]]) -> None:
    """Add visits to those of their subjects, all or none. SubjectNotFoundError for an unknown one."""
    for subject_id, added in visits.items():
        uid = require_subject(store, execute, subject_id).key.uid
        kept = [*_read(store, execute, uid), *added][-MAX_VISITS:]
        write_setting(store.vault, execute, _name(uid), [v.model_dump(mode="json") for v in kept])
    store.note("visits kept", {"visits": sum(len(added) for added in visits.values())})


def load_visits(store: Store, execute: Execute) -> dict[str, list[KeptVisit]]:
    """The visits of everybody who has any. GalleryError for a damaged one."""
    found = {}
    for subject in stored_subjects(store, execute):
        if visits := _read(store, execute, subject.key.uid):
            found[subject.subject_id] = visits
    return found


def forget_visits(execute: Execute, uid: bytes) -> None:
    """Delete a subject's visits, as when the subject is erased."""
    remove_setting(execute, _name(uid))


def _read(store: Store, execute: Execute, uid: bytes) -> list[KeptVisit]:
    try:
        return [
            KeptVisit.model_validate(v)
            for v in read_setting(store.vault, execute, _name(uid)) or []
        ]
    except (ValidationError, TypeError) as error:
        raise GalleryError(
            "a guided visit in the gallery is damaged: restore a backup, or remove that subject"
        ) from error


def _name(uid: bytes) -> str:
    return f"visits {uid.hex()}"
