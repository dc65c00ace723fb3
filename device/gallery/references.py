"""All templates of a gallery, opened and in order, for whoever compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limen.device.gallery.records import stored_subjects
from limen.device.gallery.templates import (
    decoded_rows,
    negative_context,
    opened_template,
    reference_context,
)
from limen.device.subjects import References

if TYPE_CHECKING:
    from limen.device.gallery.store import Execute, Store


def load_references(
    store: Store, execute: Execute, rows: Sequence[int] | None = None
) -> References:
    """All references and negatives. GalleryError for one that is damaged or not in its place.

    rows: only those of the subjects in these rows of the file.
    """
    outermost = not store.connection.in_transaction
    if outermost:
        execute("BEGIN")  # one snapshot: who is enrolled between two statements is in none of them
    try:
        (model_id,) = execute("SELECT model_id FROM door").fetchone()
        subjects = stored_subjects(store, execute, rows)
        references = _sealed(execute, "reference", rows)
        negatives = _sealed(execute, "negative", rows)
    finally:
        if outermost:
            execute("COMMIT")
    filled = {number for number, _ in references}
    subjects = [subject for subject in subjects if subject.row in filled]
    index = {subject.row: number for number, subject in enumerate(subjects)}
    uids = {subject.row: subject.key.uid for subject in subjects}
    opens = store.vault.records

    references.sort(key=lambda row: index[row[0]])  # stable: enrolment's order within a subject
    own = {row: reference_context(uid, model_id) for row, uid in uids.items()}
    embeddings = decoded_rows(
        [opened_template(opens, sealed, own[row]) for row, sealed in references]
    )
    strange = {row: negative_context(uid, model_id) for row, uid in uids.items()}
    negatives = [pair for pair in negatives if pair[0] in index]
    others = decoded_rows(
        [opened_template(opens, sealed, strange[row]) for row, sealed in negatives]
    )
    return References(
        subject_ids=tuple(subject.subject_id for subject in subjects),
        subject=_numbers(index, references),
        embeddings=embeddings,
        negatives=others,
        negative_subject=_numbers(index, negatives),
        details=tuple(subject.details for subject in subjects),
    )


def subject_rows(
    store: Store, execute: Execute, rows: Sequence[int] | None = None
) -> dict[str, int]:
    """The subjects' rows in the file, by their ids; of all, or of those in `rows`."""
    return {subject.subject_id: subject.row for subject in stored_subjects(store, execute, rows)}


def _sealed(execute: Execute, table: str, rows: Sequence[int] | None) -> list[tuple[int, bytes]]:
    """Subject row and sealed template, in the order of enrolment."""
    chosen = "" if rows is None else f" WHERE subject IN ({', '.join('?' * len(rows))})"
    found = execute(f"SELECT subject, sealed FROM {table}{chosen} ORDER BY id", tuple(rows or ()))
    return found.fetchall()


def _numbers(index: dict[int, int], rows: list[tuple[int, bytes]]) -> NDArray[np.int64]:
    return np.array([index[row] for row, _ in rows], np.int64)
