"""A thorough look at a gallery: every page, every record, every entry of the audit log."""

from __future__ import annotations

from dataclasses import dataclass

from limen.device.gallery import audit
from limen.device.gallery.points import opened_point
from limen.device.gallery.records import stored_subjects
from limen.device.gallery.references import load_references
from limen.device.gallery.sealing import DamagedRecordError
from limen.device.gallery.store import Store
from limen.device.gallery.templates import crop_context, opened_template, other_context


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check went through, all of it in order."""

    subjects: int
    references: int
    operating_points: int
    audit_entries: int


def check(store: Store) -> Findings:
    """Read and authenticate everything. GalleryError with what is wrong first."""
    with store.reading() as execute:
        verdict = execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok" or execute("PRAGMA foreign_key_check").fetchone():
            raise DamagedRecordError(f"{store.path}: the gallery is damaged: put back a backup")
        references = load_references(store, execute)
        subjects = stored_subjects(store, execute)
        for subject in subjects:
            rows = execute(
                "SELECT sealed_crop FROM reference WHERE subject = ? AND sealed_crop IS NOT NULL",
                (subject.row,),
            )
            for (sealed,) in rows:
                store.vault.records.open(sealed, crop_context(subject.key.uid))
            others = execute(
                "SELECT sealed, model_id, kind FROM other_template WHERE subject = ?",
                (subject.row,),
            )
            for sealed, model_id, kind in others:
                bound_to = other_context(subject.key.uid, model_id, kind)
                opened_template(store.vault.records, sealed, bound_to)
        points = [
            opened_point(store.vault, sealed)
            for (sealed,) in execute("SELECT sealed FROM operating_point").fetchall()
        ]
        entries = audit.verify(store.connection, store.vault)
        for _ in audit.entries(store.connection, store.vault):
            pass
    return Findings(len(subjects), len(references.embeddings), len(points), entries)
