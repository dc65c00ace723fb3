"""Adding to subjects: references, negatives, another subject's references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from limen.device.gallery.erasure import Erasure, erase
from limen.device.gallery.expiry import note_expiry
from limen.device.gallery.records import (
    Enrolment,
    StoredSubject,
    add_references,
    find_subject,
    insert_subject,
    require_subject,
    update_subject,
)
from limen.device.gallery.store import Execute, Store
from limen.device.gallery.templates import (
    checked_embeddings,
    checked_time,
    crop_context,
    is_adapted,
    negative_context,
    opened_shot,
    reference_context,
    seal_template,
)
from limen.device.subjects import SubjectDetails, checked_subject_id
from limen.errors import GalleryError

MAX_NEGATIVES_A_SUBJECT = 50
MAX_CROP_BYTES = 256 * 1024


def enrol(store: Store, enrolments: Sequence[Enrolment]) -> None:
    """Add references to new or known subjects, all or none. GalleryError for what is no template."""
    checked = [_checked(new) for new in enrolments]
    if not checked:
        return
    with store.writing(references=True) as execute:
        (model_id,) = execute("SELECT model_id FROM door").fetchone()
        for new in checked:
            subject = _found_or_made(store, execute, new)
            add_references(store, execute, subject, model_id, new)
            store.touch(subject.row)
            if new.negatives is not None:
                _insert_negatives(store, execute, subject, model_id, new.negatives, new.enrolled_at)
            store.note(
                "enrolled",
                {"references": len(new.embeddings)},
                subject=subject.key,
                personal={"subject_id": subject.subject_id},
            )


def add_negatives(
    store: Store, subject_id: str, embeddings: NDArray[np.float32], taken_at: str
) -> None:
    """Note templates of people who are not this subject. SubjectNotFoundError without one."""
    rows, taken_at = checked_embeddings(embeddings), checked_time(taken_at)
    with store.writing(references=True) as execute:
        (model_id,) = execute("SELECT model_id FROM door").fetchone()
        subject = require_subject(store, execute, subject_id)
        _insert_negatives(store, execute, subject, model_id, rows, taken_at)
        store.touch(subject.row)
        store.note(
            "negatives added",
            {"negatives": len(rows)},
            subject=subject.key,
            personal={"subject_id": subject.subject_id},
        )


def merge(store: Store, kept_id: str, other_id: str) -> Erasure:
    """Seal the other's references again as the kept subject's, and erase the other.

    Two commits: killed between them, the references are under both ids, and merging again is safe.
    """
    with store.writing(references=True) as execute:
        (model_id,) = execute("SELECT model_id FROM door").fetchone()
        kept = require_subject(store, execute, kept_id)
        other = require_subject(store, execute, other_id)
        if kept.row == other.row:
            raise GalleryError("a subject cannot be merged with itself: name two")
        moved = _move_references(store, execute, kept, other, model_id)
        store.touch(kept.row)
        store.touch(other.row)
        store.note(
            "merged",
            {"references": moved, "from": other.key.uid.hex()},
            subject=kept.key,
            personal={"subject_id": kept.subject_id},
        )
    return erase(store, [other.subject_id], "merged")[0]


def _move_references(
    store: Store, execute: Execute, kept: StoredSubject, other: StoredSubject, model_id: str
) -> int:
    sealer = store.vault.records
    rows = execute(
        "SELECT id, sealed, sealed_crop FROM reference WHERE subject = ?", (other.row,)
    ).fetchall()
    for number, sealed, crop in rows:
        bound_to = reference_context(other.key.uid, model_id)
        shot = opened_shot(sealer, sealed, bound_to)
        adapted = is_adapted(sealer, sealed, bound_to)
        bound_to = reference_context(kept.key.uid, model_id)
        if crop is not None:
            crop = sealer.open(crop, crop_context(other.key.uid))
            crop = sealer.seal(crop, crop_context(kept.key.uid))
        execute(
            "UPDATE reference SET subject = ?, sealed = ?, sealed_crop = ? WHERE id = ?",
            (
                kept.row,
                seal_template(sealer, *shot, bound_to, adapted=adapted),
                crop,
                number,
            ),
        )
    return len(rows)


def _found_or_made(store: Store, execute: Execute, new: Enrolment) -> StoredSubject:
    subject = find_subject(store, execute, new.subject_id)
    if new.details is not None:
        note_expiry(store, execute, new.details)
    if subject is None:
        return insert_subject(
            execute, store.vault, new.subject_id, new.enrolled_at, new.details or SubjectDetails()
        )
    if new.details is not None:
        update_subject(execute, store.vault, subject, subject.subject_id, new.details)
    return subject


def _insert_negatives(
    store: Store,
    execute: Execute,
    subject: StoredSubject,
    model_id: str,
    rows: NDArray[np.float32],
    taken_at: str,
) -> None:
    (had,) = execute("SELECT count(*) FROM negative WHERE subject = ?", (subject.row,)).fetchone()
    if had + len(rows) > MAX_NEGATIVES_A_SUBJECT:
        raise GalleryError(
            f"a subject has at most {MAX_NEGATIVES_A_SUBJECT} negatives: enrol better references"
        )
    bound_to = negative_context(subject.key.uid, model_id)
    for row in rows:
        execute(
            "INSERT INTO negative (subject, sealed) VALUES (?, ?)",
            (subject.row, seal_template(store.vault.records, row, 1.0, taken_at, bound_to)),
        )


def _checked(new: Enrolment) -> Enrolment:
    name = checked_subject_id(new.subject_id)
    rows = checked_embeddings(new.embeddings)
    if len(new.qualities) != len(rows) or not all(0 <= quality <= 1 for quality in new.qualities):
        raise GalleryError(
            f"expected {len(rows)} qualities from 0 to 1, one a reference: measure them again"
        )
    if new.crops and len(new.crops) != len(rows):
        raise GalleryError(f"expected {len(rows)} crops, one a reference, found {len(new.crops)}")
    if any(len(crop) > MAX_CROP_BYTES for crop in new.crops):
        raise GalleryError(f"a crop has at most {MAX_CROP_BYTES // 1024} KiB: keep it smaller")
    negatives = None if new.negatives is None else checked_embeddings(new.negatives)
    return replace(
        new,
        subject_id=name,
        embeddings=rows,
        enrolled_at=checked_time(new.enrolled_at),
        negatives=negatives,
    )
