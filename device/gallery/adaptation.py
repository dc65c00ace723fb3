"""References that the door adds by itself: only where the owner turned it on, and within bounds.

Reference adaptation (ISO/IEC 2382-37). A new reference is compared with those that were enrolled by
people, never with ones that were added by itself, so the references cannot walk away step by step
(template creep: Poh, Kittler, Marcel and others, Model and Score Adaptation for Biometric Systems,
2010). Each is marked, can be taken back, and is on record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from limen.calibration.fusion import fuse
from limen.device.gallery.points import opened_point
from limen.device.gallery.records import (
    StoredSubject,
    find_subject,
    require_subject,
    stored_subjects,
)
from limen.device.gallery.settings import read_setting, remove_setting, write_setting
from limen.device.gallery.templates import (
    checked_embeddings,
    is_adapted,
    negative_context,
    opened_shot,
    reference_context,
    seal_template,
)

if TYPE_CHECKING:
    from limen.device.gallery.store import Execute, Store

_SETTING = "adaptation"
# Enough likeness that a reference teaches nothing: as at enrolment.
REDUNDANT_SCORE = 0.995
# What is left of the likeness between what people enrolled and what is compared with; below, adding
# stops, since the subject is becoming somebody else.
MIN_ANCHOR_SCORE = 0.9


class AdaptationPolicy(BaseModel):
    """How much the door may add by itself, and of what."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    most: int = Field(3, ge=1, le=10, description="such references a subject has at most")
    every_days: float = Field(7.0, ge=1, le=365, description="days between two of a subject")
    above: float = Field(
        0.1, ge=0.05, le=1, description="how far above the threshold, and above everybody else"
    )
    min_quality: float = Field(0.5, ge=0.25, le=1, description="quality of the shot")


@dataclass(frozen=True, slots=True)
class Adapted:
    """A reference that the door added. number: its row; score: against what people enrolled."""

    subject_id: str
    number: int
    taken_at: str
    quality: float
    score: float


@dataclass(frozen=True, slots=True)
class _Shot:
    number: int
    row: NDArray[np.float32]
    quality: float
    taken_at: str
    adapted: bool


def read_policy(store: Store) -> AdaptationPolicy | None:
    """What the owner allows; None where nothing is added by itself, as from the start."""
    with store.reading() as execute:
        return _policy(store, execute)


def set_policy(store: Store, policy: AdaptationPolicy | None) -> None:
    """Turn it on, or off with None. What was added stays until it is undone."""
    with store.writing(door=False) as execute:
        if policy is None:
            remove_setting(execute, _SETTING)
            store.note("adaptation off")
        else:
            write_setting(store.vault, execute, _SETTING, policy.model_dump())
            store.note("adaptation on", dict(policy.model_dump()))


def adapt(
    store: Store,
    subject_id: str,
    embedding: NDArray[np.float32],
    quality: float,
    now: datetime,
    *,
    model_id: str | None = None,
) -> str:
    """Add a reference of a visit to a subject; why it was not added, '' where it was.

    embedding: (D,) float32, unit norm; now: with a time zone; model_id: the embedding's, where it
    may be another than the gallery's. The oldest that the door added makes
    room for the newest. What only comes too soon or teaches nothing is not put on record; what would
    let the subject drift is.
    """
    row = checked_embeddings(embedding[None])[0]
    with store.writing(door=False) as execute:
        policy = _policy(store, execute)
        subject = find_subject(store, execute, subject_id)
        if policy is None or subject is None:
            return "off" if policy is None else "nobody of that id"
        in_force, threshold = _in_force(store, execute)
        if model_id not in (None, in_force):
            return "the door runs another model"
        shots = _shots(store, execute, subject, in_force)
        refusal = _too_soon(shots, policy, now) or _unlike(
            store, execute, subject, shots, row, quality, policy, threshold
        )
        if refusal:
            return refusal
        added = sorted((shot for shot in shots if shot.adapted), key=lambda shot: shot.taken_at)
        gone = added[: max(0, len(added) + 1 - policy.most)]
        drift = _drift([shot for shot in shots if shot not in gone], row)
        if drift > 1 - MIN_ANCHOR_SCORE:
            _note(store, "adaptation stopped", subject, {"drift": round(drift, 4)})
            return "the subject would drift away from what was enrolled"
        for shot in gone:
            execute("DELETE FROM reference WHERE id = ?", (shot.number,))
        sealed = seal_template(
            store.vault.records,
            row,
            quality,
            now.isoformat(timespec="seconds"),
            reference_context(subject.key.uid, in_force),
            adapted=True,
        )
        execute("INSERT INTO reference (subject, sealed) VALUES (?, ?)", (subject.row, sealed))
        execute("UPDATE door SET changes = changes + 1, reference_changes = reference_changes + 1")
        store.touch(subject.row)
        _note(store, "adapted", subject, {"drift": round(drift, 4), "replaced": len(gone)})
    return ""


def adapted_references(store: Store) -> list[Adapted]:
    """All that the door added and nobody took back, by subject and time."""
    found = []
    with store.reading() as execute:
        model_id, _ = _in_force(store, execute)
        for subject in stored_subjects(store, execute):
            shots = _shots(store, execute, subject, model_id)
            anchor = _anchor(shots)
            found += [
                Adapted(
                    subject.subject_id,
                    shot.number,
                    shot.taken_at,
                    shot.quality,
                    float(shot.row @ anchor) if anchor is not None else 0.0,
                )
                for shot in shots
                if shot.adapted
            ]
    return found


def undo(store: Store, subject_id: str | None) -> int:
    """Take back all that the door added to a subject, or to everybody; how many references.

    SubjectNotFoundError where nobody is enrolled under that id.
    """
    with store.reading() as execute:
        model_id, _ = _in_force(store, execute)
        subjects = (
            stored_subjects(store, execute)
            if subject_id is None
            else [require_subject(store, execute, subject_id)]
        )
        found = [
            (subject, [s.number for s in _shots(store, execute, subject, model_id) if s.adapted])
            for subject in subjects
        ]
    found = [(subject, numbers) for subject, numbers in found if numbers]
    if not found:
        return 0
    with store.writing(references=True) as execute:
        for subject, numbers in found:
            execute(
                f"DELETE FROM reference WHERE id IN ({', '.join('?' * len(numbers))})",
                tuple(numbers),
            )
            _note(store, "adaptation undone", subject, {"references": len(numbers)})
    return sum(len(numbers) for _, numbers in found)


def _too_soon(shots: list[_Shot], policy: AdaptationPolicy, now: datetime) -> str:
    last = max((shot.taken_at for shot in shots if shot.adapted), default=None)
    if last is not None and now - datetime.fromisoformat(last) < timedelta(days=policy.every_days):
        return "too soon after the last"
    return ""


def _unlike(
    store: Store,
    execute: Execute,
    subject: StoredSubject,
    shots: list[_Shot],
    row: NDArray[np.float32],
    quality: float,
    policy: AdaptationPolicy,
    threshold: float | None,
) -> str:
    anchor = _anchor(shots)
    if threshold is None or anchor is None or row.shape != anchor.shape:
        return "not calibrated, or not enrolled by people"
    if quality < policy.min_quality:
        return "the shot is not good enough"
    score = float(anchor @ row)
    if score < threshold + policy.above:
        return "not far enough above the threshold"
    if max(float(shot.row @ row) for shot in shots) >= REDUNDANT_SCORE:
        return "teaches nothing new"
    bound_to = negative_context(subject.key.uid, _in_force(store, execute)[0])
    for (sealed,) in execute("SELECT sealed FROM negative WHERE subject = ?", (subject.row,)):
        if float(opened_shot(store.vault.records, sealed, bound_to)[0] @ row) >= score:
            return "more like somebody who was taken for the subject"
    return ""


def _anchor(shots: list[_Shot]) -> NDArray[np.float32] | None:
    """What people enrolled, fused, (D,)."""
    rows = [shot.row for shot in shots if not shot.adapted]
    return fuse(np.stack(rows), np.zeros(len(rows), np.int64), 1)[0] if rows else None


def _drift(kept: list[_Shot], row: NDArray[np.float32]) -> float:
    """1 - cosine between what people enrolled and what would be compared with."""
    anchor = _anchor(kept)
    if anchor is None:
        return 1.0
    rows = np.stack([*(shot.row for shot in kept), row])
    return 1.0 - float(anchor @ fuse(rows, np.zeros(len(rows), np.int64), 1)[0])


def _shots(store: Store, execute: Execute, subject: StoredSubject, model_id: str) -> list[_Shot]:
    bound_to = reference_context(subject.key.uid, model_id)
    rows = execute(
        "SELECT id, sealed FROM reference WHERE subject = ? ORDER BY id", (subject.row,)
    ).fetchall()
    opens = store.vault.records
    return [
        _Shot(number, *opened_shot(opens, sealed, bound_to), is_adapted(opens, sealed, bound_to))
        for number, sealed in rows
    ]


def _in_force(store: Store, execute: Execute) -> tuple[str, float | None]:
    """The model, and the threshold; None before the first calibration."""
    model_id, sealed = execute(
        "SELECT d.model_id, p.sealed FROM door d"
        " LEFT JOIN operating_point p ON p.id = d.operating_point"
    ).fetchone()
    return model_id, opened_point(store.vault, sealed).threshold if sealed else None


def _policy(store: Store, execute: Execute) -> AdaptationPolicy | None:
    told = read_setting(store.vault, execute, _SETTING)
    return None if told is None else AdaptationPolicy.model_validate(told)


def _note(store: Store, kind: str, subject: StoredSubject, detail: dict[str, object]) -> None:
    store.note(kind, detail, subject=subject.key, personal={"subject_id": subject.subject_id})
