"""The gallery as the rest of limen sees it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from limen.calibration.operating_point import OperatingPoint
from limen.device.gallery.audit_log import AuditLog
from limen.device.gallery.backup import Backup, back_up, listed_backups
from limen.device.gallery.binding import bind_model
from limen.device.gallery.checking import Findings, check
from limen.device.gallery.enrolling import add_negatives, enrol, merge
from limen.device.gallery.erasure import Erasure, erase, erase_expired, purge, purge_is_due
from limen.device.gallery.expiry import note_expiry
from limen.device.gallery.keys import KeyFile, KeySource, default_key
from limen.device.gallery.points import (
    keep_point,
    opened_point,
    put_earlier_point_in_force,
)
from limen.device.gallery.records import (
    Enrolment,
    list_records,
    require_subject,
    update_subject,
)
from limen.device.gallery.references import load_references
from limen.device.gallery.rotation import rekey
from limen.device.gallery.searching import index_carried_over, load_templates
from limen.device.gallery.store import Clock, Store, now_utc
from limen.device.gallery.vault import fingerprint
from limen.device.indexed_search import EXACT_UP_TO
from limen.device.subjects import References, SubjectDetails, SubjectRecord, checked_subject_id
from limen.errors import GalleryError


class Gallery:
    """References by subject, and the operating point that was calibrated on them.

    Templates, names and all that is written of a subject are sealed. One process may write while
    others read; a change that was acknowledged survives a pulled plug. Not safe to share between
    threads. Every method raises GalleryError where the file fails.
    """

    def __init__(self, store: Store, key: KeySource) -> None:
        self.store = store
        self._key = key

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        model_id: str | None = None,
        create: bool = False,
        key: KeySource | None = None,
        actor: str = "local",
        clock: Clock = now_utc,
    ) -> Self:
        """Open the gallery in `path`; with `create`, make one for `model_id` where there is none.

        key: what opens it, the file beside it (`NAME.key`) where none is given; a new gallery's key
        file is made where it is missing. actor: whom the audit log names. A gallery without
        references takes on `model_id`. An older file is migrated.
        ModelMismatchError where it holds references of another model; GalleryKeyError where the
        key is missing or another's; GalleryError where the file is missing, damaged, or no gallery.
        """
        if model_id is not None and not 1 <= len(model_id) <= 64:
            raise GalleryError(f"a model id has 1 to 64 characters, found {len(model_id)}")
        store = Store.open(
            path, model_id=model_id, create=create, key=key, actor=actor, clock=clock
        )
        gallery = cls(store, key or default_key(path))
        try:
            if model_id is not None:
                bind_model(store, model_id)
            if purge_is_due(
                store
            ):  # a deletion that a killed process, or a busy one, left half done
                purge(store)
        except BaseException:
            gallery.close()
            raise
        return gallery

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        self.store.close()

    @property
    def path(self) -> Path:
        """Where the gallery lies."""
        return self.store.path

    @property
    def model_id(self) -> str:
        """The model whose references the gallery holds."""
        return self.store.model_id

    @property
    def made_key(self) -> Path | None:
        """The key file that opening the gallery made; None where it was there."""
        return self.store.made_key

    @property
    def fingerprint(self) -> str:
        """What tells this gallery's signature from another's, for people to compare."""
        return fingerprint(self.store.vault.public_key())

    def change_counter(self) -> int:
        """A number that grows with every change a door must notice, by whichever process. Cheap."""
        with self.store.reading() as execute:
            return int(execute("SELECT changes FROM door").fetchone()[0])

    def enrol(
        self,
        subject_id: str,
        embeddings: NDArray[np.float32],
        qualities: Sequence[float],
        enrolled_at: str,
        *,
        details: SubjectDetails | None = None,
        crops: Sequence[bytes] = (),
    ) -> None:
        """Add references to a new or a known subject, all or none.

        embeddings: (k, D) float32, k >= 1, unit norm, D as in the gallery; qualities: (k,), 0 to 1;
        enrolled_at: UTC, ISO 8601; details: replace what was written of the subject; crops: none,
        or k encoded pictures, kept sealed. GalleryError where one of them is not so.
        """
        self.enrol_all(
            [Enrolment(subject_id, embeddings, qualities, enrolled_at, details, tuple(crops))]
        )

    def enrol_all(self, enrolments: Sequence[Enrolment]) -> None:
        """Add references to several subjects, all or none."""
        enrol(self.store, enrolments)

    def add_negatives(
        self, subject_id: str, embeddings: NDArray[np.float32], taken_at: str
    ) -> None:
        """Note templates (k, D) of people who are not this subject, though taken for it.

        A probe that is at least as much like one of them as like the subject does not match it.
        """
        add_negatives(self.store, subject_id, embeddings, taken_at)

    def remove(self, subject_id: str, reason: str = "asked for") -> Erasure:
        """Erase a subject: rows, crops, audit key, bytes; a signed receipt comes back.

        SubjectNotFoundError where nobody is enrolled under that id.
        """
        with index_carried_over(self.store):
            return erase(self.store, [checked_subject_id(subject_id)], reason)[0]

    def erase_expired(self, now: datetime) -> list[Erasure]:
        """Erase everybody whose time is over. now: with a time zone."""
        return erase_expired(self.store, now)

    def rename(self, subject_id: str, new_id: str) -> None:
        """Give a subject another id. GalleryError where somebody has it."""
        new_id = checked_subject_id(new_id)
        with self.store.writing(references=False) as execute:
            subject = require_subject(self.store, execute, subject_id)
            taken = execute(
                "SELECT 1 FROM subject WHERE tag = ? AND id <> ?",
                (self.store.vault.tag(new_id), subject.row),
            ).fetchone()
            if taken:
                raise GalleryError(
                    "somebody is enrolled under the new id: 'limen subjects merge' makes one of two"
                )
            update_subject(execute, self.store.vault, subject, new_id, subject.details)
            self.store.touch(subject.row)
            self.store.note(
                "renamed",
                subject=subject.key,
                personal={"from": subject.subject_id, "to": new_id},
            )

    def describe(self, subject_id: str, details: SubjectDetails) -> None:
        """Replace what is written of a subject."""
        with self.store.writing() as execute:
            subject = require_subject(self.store, execute, subject_id)
            update_subject(execute, self.store.vault, subject, subject.subject_id, details)
            note_expiry(self.store, execute, details)
            self.store.touch(subject.row)
            self.store.note(
                "described", subject=subject.key, personal={"subject_id": subject.subject_id}
            )

    def merge(self, kept_id: str, other_id: str) -> Erasure:
        """Give one subject the other's references, and erase the other."""
        return merge(self.store, kept_id, other_id)

    def subjects(self) -> list[SubjectRecord]:
        """Everybody who is enrolled, sorted by subject id."""
        with self.store.reading() as execute:
            return list_records(self.store, execute)

    def subject(self, subject_id: str) -> SubjectRecord:
        """One subject. SubjectNotFoundError where nobody is enrolled under that id."""
        with self.store.reading() as execute:
            found = require_subject(self.store, execute, subject_id).subject_id
        return next(record for record in self.subjects() if record.subject_id == found)

    def references(self) -> References:
        """All references. GalleryError for a stored one that is damaged or not in its place."""
        with self.store.reading() as execute:
            return load_references(self.store, execute)

    def templates(self, index_above: int = EXACT_UP_TO) -> References:
        """What a door compares with: all references, or above so many subjects their search index.

        The index is made where there is none. GalleryError as in `references`.
        """
        return load_templates(self.store, index_above)

    def operating_point(self) -> OperatingPoint | None:
        """The operating point in force, or None before the first calibration.

        CalibrationError or GalleryError where the stored one is damaged.
        """
        with self.store.reading() as execute:
            row = execute(
                "SELECT p.sealed FROM door d JOIN operating_point p ON p.id = d.operating_point"
            ).fetchone()
        return opened_point(self.store.vault, row[0]) if row else None

    def operating_points(self) -> list[OperatingPoint]:
        """Every operating point that was ever kept, oldest first."""
        with self.store.reading() as execute:
            rows = execute("SELECT sealed FROM operating_point ORDER BY id").fetchall()
        return [opened_point(self.store.vault, sealed) for (sealed,) in rows]

    def reference_state(self) -> int:
        """A number that changes whenever references do."""
        with self.store.reading() as execute:
            return int(execute("SELECT reference_changes FROM door").fetchone()[0])

    def keep_operating_point(
        self, point: OperatingPoint, *, reference_state: int | None = None
    ) -> None:
        """Put `point` in force; the earlier ones stay in the history.

        reference_state: the state that it was calibrated on; CalibrationError where references
        have changed since. ModelMismatchError where it was calibrated with another model.
        """
        with self.store.writing() as execute:
            keep_point(self.store, execute, point, reference_state)

    def step_back(self) -> OperatingPoint:
        """Put the point before the one in force back in force; the history keeps both.

        CalibrationError where there is none of this model before it.
        """
        with self.store.writing() as execute:
            return put_earlier_point_in_force(self.store, execute)

    def calibration_is_stale(self) -> bool:
        """Whether references changed after the operating point in force was kept.

        False where there is none.
        """
        with self.store.reading() as execute:
            row = execute(
                "SELECT p.reference_changes <> d.reference_changes"
                " FROM door d JOIN operating_point p ON p.id = d.operating_point"
            ).fetchone()
        return bool(row and row[0])

    def check(self) -> Findings:
        """Read and authenticate every page, record and audit entry. GalleryError with what is wrong."""
        return check(self.store)

    def back_up(self, target: Path) -> None:
        """Copy the gallery to a new file while others use it. It opens with the same key."""
        back_up(self.store, target)

    def backups(self) -> list[Backup]:
        """Every backup that was made of this gallery, oldest first."""
        with self.store.reading() as execute:
            return listed_backups(self.store, execute)

    def rekey(self, source: KeySource | None = None) -> bool:
        """Seal everything under a new key; with `source`, one that another secret opens.

        Returns whether the old records' bytes are gone from the file already.
        """
        wanted = source or self._key
        in_place = isinstance(wanted, KeyFile) and wanted == self._key
        purged = rekey(self.store, wanted, in_place=in_place)
        self._key = wanted
        return purged

    @property
    def audit(self) -> AuditLog:
        """Who did what, and what the door did."""
        return AuditLog(self.store)
