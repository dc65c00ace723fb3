"""A gallery on its way from one model to another, with templates of both.

    references of A ── their crops, embedded by B ──> staged ── one commit ──> references of B
                                                                └─> A's stand aside until `finish`

Templates are staged in small commits and a door notices nothing of it; killed at any time, staging
goes on where it was. The switch is one transaction. From then on the gallery is B's: enrolments and
calibrations are of B, and A's templates and operating point only serve (`limen.device.side_by_side`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.operating_point import OperatingPoint
from limen.device.gallery.erasure import purge
from limen.device.gallery.points import opened_point, short
from limen.device.gallery.records import stored_subjects
from limen.device.gallery.store import Execute, Store
from limen.device.gallery.templates import (
    crop_context,
    decoded_rows,
    is_adapted,
    opened_shot,
    opened_template,
    other_context,
    reference_context,
    seal_template,
)
from limen.device.subjects import References
from limen.errors import GalleryError, ModelMismatchError, PictureError
from limen.images import decode_picture

BATCH = 16

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Move:
    """A move that is under way.

    former: the model that still serves; point: its operating point, None where it had none;
    waiting: ids of those whom only it knows, who must come back, sorted.
    """

    former: str
    point: OperatingPoint | None
    waiting: tuple[str, ...]


def move_under_way(store: Store) -> Move | None:
    """The move that was begun and not finished."""
    with store.reading() as execute:
        row = execute(
            "SELECT f.model_id, p.sealed FROM former f"
            " LEFT JOIN operating_point p ON p.id = f.operating_point"
        ).fetchone()
        if row is None:
            return None
        known = {n for (n,) in execute("SELECT DISTINCT subject FROM reference").fetchall()}
        served = {n for (n,) in execute(_SERVED).fetchall()}
        waiting = [s.subject_id for s in stored_subjects(store, execute) if s.row in served - known]
    point = opened_point(store.vault, row[1]) if row[1] is not None else None
    return Move(row[0], point, tuple(waiting))


_SERVED = "SELECT DISTINCT subject FROM other_template WHERE kind = 'reference'"


def stage(
    store: Store, model_id: str, embed: Embed, report: Callable[[int], None] = lambda _: None
) -> set[int]:
    """Embed every kept crop that is not staged yet, a few at a time, each few durable.

    embed: (n, 112, 112, 3) uint8 RGB -> (n, D) float32 of unit norm, by `model_id`; report: called
    with the number of crops done. Returns the rows of references whose crop is no picture any more.
    GalleryError where another move is not finished.
    """
    with store.writing(door=False) as execute:
        _refuse_a_second_move(execute)
        execute("DELETE FROM other_template WHERE kind = 'staged' AND model_id <> ?", (model_id,))
    unreadable: set[int] = set()
    last, done = 0, 0
    while True:
        with store.reading() as execute:
            (own,) = execute("SELECT model_id FROM door").fetchone()
            rows = execute(
                "SELECT r.id, r.subject, s.uid, r.sealed, r.sealed_crop FROM reference r"
                " JOIN subject s ON s.id = r.subject WHERE r.id > ? AND r.sealed_crop IS NOT NULL"
                " AND r.id NOT IN (SELECT reference FROM other_template WHERE kind = 'staged')"
                " ORDER BY r.id LIMIT ?",
                (last, BATCH),
            ).fetchall()
        if not rows:
            return unreadable
        last = rows[-1][0]
        crops = {row[0]: _crop(store, row[2], row[4]) for row in rows}
        unreadable |= {number for number, crop in crops.items() if crop is None}
        readable = [row for row in rows if row[0] not in unreadable]
        if readable:
            batch = np.stack([crop for row in readable if (crop := crops[row[0]]) is not None])
            _keep_staged(store, own, model_id, readable, embed(batch))
        done += len(rows)
        report(done)


def switch(store: Store, model_id: str, unreadable: set[int]) -> bool:
    """Make the staged templates the gallery's references, and let the old ones stand aside.

    One transaction: a process killed in it leaves the gallery with the old model, all staged.
    What the door added by itself is left behind: nobody could take it back any more.
    False, and nothing changes, where a crop was kept after `stage` had gone by.
    """
    with store.writing(references=True) as execute:
        _refuse_a_second_move(execute)
        (own,) = execute("SELECT model_id FROM door").fetchone()
        missed = execute(
            "SELECT id FROM reference WHERE sealed_crop IS NOT NULL"
            " AND id NOT IN (SELECT reference FROM other_template WHERE kind = 'staged')"
        ).fetchall()
        if {number for (number,) in missed} - unreadable:
            return False
        execute("INSERT INTO former SELECT 1, model_id, operating_point FROM door")
        left = _set_aside(store, execute, own)
        execute("DELETE FROM negative")
        execute(
            "UPDATE reference SET sealed = t.sealed FROM other_template t"
            " WHERE t.reference = reference.id AND t.kind = 'staged'"
        )
        execute(
            "DELETE FROM reference"
            " WHERE id NOT IN (SELECT reference FROM other_template WHERE kind = 'staged')"
        )
        execute("DELETE FROM other_template WHERE kind = 'staged'")
        execute("UPDATE door SET model_id = ?, operating_point = NULL", (model_id,))
        (moved,) = execute("SELECT count(*) FROM reference").fetchone()
        store.note(
            "moved to another model",
            {"from": own, "to": model_id, "references": moved, "adapted_left_behind": left},
        )
    return True


def _set_aside(store: Store, execute: Execute, own: str) -> int:
    """Copy what people enrolled to where the former serves it; how many templates were not theirs."""
    copied = (
        "INSERT INTO other_template (subject, model_id, kind, sealed) SELECT subject, ?, '{0}', sealed"
        " FROM {0}"
    )
    left = 0
    rows = execute(
        "SELECT r.id, s.uid, r.sealed FROM reference r JOIN subject s ON s.id = r.subject"
        " ORDER BY r.id"
    ).fetchall()
    for number, uid, sealed in rows:
        if is_adapted(store.vault.records, sealed, reference_context(uid, own)):
            left += 1
        else:
            execute(copied.format("reference") + " WHERE id = ?", (own, number))
    execute(copied.format("negative") + " ORDER BY id", (own,))
    return left


def finish(store: Store, *, leave_behind: bool = False) -> bool:
    """Erase what is left of the old model. Whether its bytes are gone from the file already.

    leave_behind: though somebody is known to the old model only; they stay in the records, without
    references. GalleryError, and nothing changes, where somebody is and it is not said, no move is
    under way, or the new model has no operating point.
    """
    with store.writing(references=True) as execute:
        former = execute("SELECT model_id FROM former").fetchone()
        if former is None:
            raise GalleryError("no move to another model is under way: there is nothing to finish")
        (waiting,) = execute(
            f"SELECT count(*) FROM ({_SERVED} EXCEPT SELECT subject FROM reference)"
        ).fetchone()
        if waiting and not leave_behind:
            raise GalleryError(
                f"{waiting} people are known to the old model only and would not be recognised any "
                "more: enrol them again first, or leave them behind with --leave-behind"
            )
        if execute("SELECT operating_point FROM door").fetchone()[0] is None:
            raise GalleryError(
                "the new model has no operating point, and the door would open to nobody: run "
                "'limen calibrate' first"
            )
        (templates,) = execute("SELECT count(*) FROM other_template").fetchone()
        execute("DELETE FROM other_template")
        execute("DELETE FROM former")
        execute("UPDATE door SET purge_due = 1")
        store.note(
            "move finished",
            {"from": former[0], "templates_erased": templates, "left_behind": waiting},
        )
    return purge(store)


def former_references(store: Store) -> References:
    """What the old model's templates are, of everybody whom it knows. (0, 0) where no move is on."""
    with store.reading() as execute:
        execute("BEGIN")  # one snapshot
        try:
            subjects = stored_subjects(store, execute)
            rows = execute(
                "SELECT subject, kind, model_id, sealed FROM other_template"
                " WHERE kind <> 'staged' ORDER BY id"
            ).fetchall()
        finally:
            execute("COMMIT")
    served = {number for number, kind, _, _ in rows if kind == "reference"}
    subjects = [subject for subject in subjects if subject.row in served]
    index = {subject.row: number for number, subject in enumerate(subjects)}
    uids = {subject.row: subject.key.uid for subject in subjects}

    def of_kind(wanted: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        own = [row for row in rows if row[1] == wanted and row[0] in index]
        own.sort(key=lambda row: index[row[0]])
        blobs = [
            opened_template(store.vault.records, sealed, other_context(uids[number], model, kind))
            for number, kind, model, sealed in own
        ]
        return np.array([index[row[0]] for row in own], np.int64), decoded_rows(blobs)

    subject, embeddings = of_kind("reference")
    negative_subject, negatives = of_kind("negative")
    return References(
        subject_ids=tuple(subject.subject_id for subject in subjects),
        subject=subject,
        embeddings=embeddings,
        negatives=negatives,
        negative_subject=negative_subject,
        details=tuple(subject.details for subject in subjects),
    )


def _refuse_a_second_move(execute: Execute) -> None:
    if former := execute("SELECT model_id FROM former").fetchone():
        raise GalleryError(
            f"the move from model {short(former[0])} is not finished: whoever waits would be lost; "
            "'limen gallery migrate --finish' first"
        )


def _crop(store: Store, uid: bytes, sealed: bytes) -> NDArray[np.uint8] | None:
    """The kept crop; None where it is no picture. GalleryError where the record is damaged."""
    try:
        return decode_picture(store.vault.records.open(sealed, crop_context(uid)))
    except PictureError:
        return None


def _keep_staged(
    store: Store,
    own: str,
    model_id: str,
    rows: list[tuple[int, int, bytes, bytes, bytes]],
    embeddings: NDArray[np.float32],
) -> None:
    sealer = store.vault.records
    with store.writing(door=False) as execute:
        if execute("SELECT model_id FROM door").fetchone()[0] != own:
            raise ModelMismatchError("the gallery took on another model meanwhile: try again")
        for (number, subject, uid, sealed, _), embedding in zip(rows, embeddings, strict=True):
            _, quality, taken_at = opened_shot(sealer, sealed, reference_context(uid, own))
            template = seal_template(
                sealer, embedding, quality, taken_at, other_context(uid, model_id, "staged")
            )
            # Whoever was erased or merged meanwhile is not staged.
            execute(
                "INSERT OR IGNORE INTO other_template (subject, reference, model_id, kind, sealed)"
                " SELECT subject, id, ?, 'staged', ? FROM reference WHERE id = ? AND subject = ?",
                (model_id, template, number, subject),
            )
