"""The gallery: who may enter, as references in one SQLite file, bound to one model."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from limen.calibration.operating_point import OperatingPoint
from limen.device.gallery_file import connect, plain_errors, transaction
from limen.device.subjects import References, SubjectRecord, checked_subject_id
from limen.errors import CalibrationError, GalleryError, ModelMismatchError, SubjectNotFoundError

__all__ = ["Gallery", "References", "SubjectRecord", "checked_subject_id"]

NORM_TOLERANCE = 1e-3
MAX_TIME_CHARACTERS = 40
# Templates are stored as they are computed, in an order of bytes that no other board reads wrongly.
STORED = np.dtype("<f4")

_Execute = Callable[..., sqlite3.Cursor]


class Gallery:
    """References by subject, and the operating point that was calibrated on them.

    One process may write while others read; a change that was acknowledged survives a pulled plug.
    Not safe to share between threads. Every method raises GalleryError where the file fails.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    def open(cls, path: Path, *, model_id: str | None = None, create: bool = False) -> Self:
        """Open the gallery in `path`; with `create`, make one for `model_id` where there is none.

        A gallery without references takes on `model_id`. ModelMismatchError where it holds
        references of another model; GalleryError where it is missing, damaged, or no gallery.
        """
        if model_id is not None and not 1 <= len(model_id) <= 64:
            raise GalleryError(f"a model id has 1 to 64 characters, found {len(model_id)}")
        gallery = cls(connect(path, create, model_id), path)
        try:
            if model_id is not None:
                gallery._bind(model_id)
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
        with plain_errors(self._path):
            self._connection.close()

    @property
    def path(self) -> Path:
        """Where the gallery lies."""
        return self._path

    @property
    def model_id(self) -> str:
        """The model whose references the gallery holds."""
        with self._reading():
            return str(self._connection.execute("SELECT model_id FROM door").fetchone()[0])

    def change_counter(self) -> int:
        """A number that grows with every change, by whichever process. Cheap: one row."""
        with self._reading():
            return int(self._connection.execute("SELECT changes FROM door").fetchone()[0])

    def enrol(
        self,
        subject_id: str,
        embeddings: NDArray[np.float32],
        qualities: Sequence[float],
        enrolled_at: str,
    ) -> None:
        """Add references to a new or a known subject, all or none.

        embeddings: (k, D) float32, k >= 1, unit norm, D as in the gallery; qualities: (k,), 0 to 1;
        enrolled_at: UTC, ISO 8601. GalleryError where one of them is not so.
        """
        name = checked_subject_id(subject_id)
        rows = _checked_embeddings(embeddings)
        if len(qualities) != len(rows) or not all(0 <= quality <= 1 for quality in qualities):
            raise GalleryError(
                f"expected {len(rows)} qualities from 0 to 1, one a reference: measure them again"
            )
        if not 1 <= len(enrolled_at) <= MAX_TIME_CHARACTERS:
            raise GalleryError("enrolled_at: expected a time in UTC as in ISO 8601")
        with self._writing(references=True) as execute:
            known = execute("SELECT length(embedding) FROM reference LIMIT 1").fetchone()
            if known and known[0] != rows.shape[1] * STORED.itemsize:
                raise GalleryError(
                    f"the gallery's references have {known[0] // STORED.itemsize} values, these "
                    f"{rows.shape[1]}: use the bundle that the others were enrolled with"
                )
            execute(
                "INSERT INTO subject (subject_id, enrolled_at) VALUES (?, ?)"
                " ON CONFLICT (subject_id) DO NOTHING",
                (name, enrolled_at),
            )
            (number,) = execute("SELECT id FROM subject WHERE subject_id = ?", (name,)).fetchone()
            for row, quality in zip(rows, qualities, strict=True):
                execute(
                    "INSERT INTO reference (subject, embedding, quality, enrolled_at)"
                    " VALUES (?, ?, ?, ?)",
                    (number, row.tobytes(), float(quality), enrolled_at),
                )

    def remove(self, subject_id: str) -> None:
        """Delete a subject with all references, overwriting them in the file.

        SubjectNotFoundError where nobody is enrolled under that id.
        """
        name = checked_subject_id(subject_id)
        with self._writing(references=True) as execute:
            if execute("DELETE FROM subject WHERE subject_id = ?", (name,)).rowcount == 0:
                raise SubjectNotFoundError(
                    "nobody is enrolled under that subject id: 'limen subjects' lists who is"
                )
        # The write-ahead log still holds what the pages were; fold it in and empty it. A reader in
        # the middle of its work puts that off until the last one closes the gallery.
        with plain_errors(self._path):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def subjects(self) -> list[SubjectRecord]:
        """Everybody who is enrolled, sorted by subject id."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT s.subject_id, count(r.id), s.enrolled_at FROM subject s"
                " LEFT JOIN reference r ON r.subject = s.id GROUP BY s.id"
            ).fetchall()
        return sorted((SubjectRecord(*row) for row in rows), key=lambda record: record.subject_id)

    def references(self) -> References:
        """All references. GalleryError for a stored one not of unit norm, or of another size."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT s.subject_id, r.embedding FROM reference r"
                " JOIN subject s ON s.id = r.subject ORDER BY r.id"
            ).fetchall()
        rows.sort(key=lambda row: row[0])  # stable: the order of enrolment within a subject stays
        subject_ids = tuple(sorted({name for name, _ in rows}))
        number = {name: index for index, name in enumerate(subject_ids)}
        return References(
            subject_ids=subject_ids,
            subject=np.array([number[name] for name, _ in rows], np.int64),
            embeddings=self._decoded([blob for _, blob in rows]),
        )

    def operating_point(self) -> OperatingPoint | None:
        """The operating point in force, or None before the first calibration.

        CalibrationError where the stored one is damaged.
        """
        with self._reading():
            row = self._connection.execute(
                "SELECT p.point FROM door d JOIN operating_point p ON p.id = d.operating_point"
            ).fetchone()
        return OperatingPoint.from_json(row[0]) if row else None

    def operating_points(self) -> list[OperatingPoint]:
        """Every operating point that was ever kept, oldest first."""
        with self._reading():
            rows = self._connection.execute("SELECT point FROM operating_point ORDER BY id")
            return [OperatingPoint.from_json(row[0]) for row in rows]

    def reference_state(self) -> int:
        """A number that changes whenever references do."""
        with self._reading():
            row = self._connection.execute("SELECT reference_changes FROM door").fetchone()
        return int(row[0])

    def keep_operating_point(
        self, point: OperatingPoint, *, reference_state: int | None = None
    ) -> None:
        """Put `point` in force; the earlier ones stay in the history.

        reference_state: the state that it was calibrated on; CalibrationError where references
        have changed since. ModelMismatchError where it was calibrated with another model.
        """
        with self._writing(references=False) as execute:
            model_id, state = execute("SELECT model_id, reference_changes FROM door").fetchone()
            if point.model_id != model_id:
                raise ModelMismatchError(
                    f"gallery holds templates of model {_short(model_id)}, the operating point is "
                    f"of {_short(point.model_id)}: run 'limen calibrate' with the gallery's bundle"
                )
            if reference_state is not None and reference_state != state:
                raise CalibrationError(
                    "the gallery was changed while it was calibrated, so the result is of people "
                    "who are no longer the ones enrolled: run 'limen calibrate' again"
                )
            number = execute(
                "INSERT INTO operating_point (model_id, reference_changes, point)"
                " SELECT model_id, reference_changes, ? FROM door",
                (point.model_dump_json(),),
            ).lastrowid
            execute("UPDATE door SET operating_point = ?", (number,))

    def step_back(self) -> OperatingPoint:
        """Put the point before the one in force back in force; the history keeps both.

        CalibrationError where there is none of this model before it.
        """
        with self._writing(references=False) as execute:
            row = execute(
                "SELECT p.id, p.point FROM operating_point p JOIN door d"
                " ON p.model_id = d.model_id AND p.id < d.operating_point"
                " ORDER BY p.id DESC LIMIT 1"
            ).fetchone()
            if row is None:
                raise CalibrationError(
                    "there is no earlier operating point of this model to go back to; "
                    "the one in force stays"
                )
            execute("UPDATE door SET operating_point = ?", (row[0],))
        return OperatingPoint.from_json(row[1])

    def calibration_is_stale(self) -> bool:
        """Whether references changed after the operating point in force was kept.

        False where there is none.
        """
        with self._reading():
            row = self._connection.execute(
                "SELECT p.reference_changes <> d.reference_changes"
                " FROM door d JOIN operating_point p ON p.id = d.operating_point"
            ).fetchone()
        return bool(row and row[0])

    def _bind(self, model_id: str) -> None:
        if self.model_id == model_id:
            return
        with self._writing(references=True) as execute:
            (found,) = execute("SELECT model_id FROM door").fetchone()
            if execute("SELECT 1 FROM reference LIMIT 1").fetchone():
                raise ModelMismatchError(
                    f"gallery holds templates of model {_short(found)}, bundle is "
                    f"{_short(model_id)}: enrol again with 'limen enrol', or install the old bundle"
                )
            execute("UPDATE door SET model_id = ?, operating_point = NULL", (model_id,))

    def _decoded(self, blobs: list[bytes]) -> NDArray[np.float32]:
        if not blobs:
            return np.zeros((0, 0), np.float32)
        sizes = {len(blob) for blob in blobs}
        if len(sizes) == 1 and sizes.pop() % STORED.itemsize == 0:
            rows = np.frombuffer(b"".join(blobs), STORED).reshape(len(blobs), -1)
            if _is_unit_norm(rows):
                return rows.astype(np.float32)
        raise GalleryError(
            f"{self._path}: a stored reference is damaged: put back a copy, or enrol again"
        )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        with plain_errors(self._path):
            yield

    @contextlib.contextmanager
    def _writing(self, *, references: bool) -> Iterator[_Execute]:
        """One transaction that also counts the change."""
        with plain_errors(self._path), transaction(self._connection):
            yield self._connection.execute
            self._connection.execute(
                "UPDATE door SET changes = changes + 1, reference_changes = reference_changes + ?",
                (int(references),),
            )


def _checked_embeddings(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    if embeddings.dtype != np.float32 or embeddings.ndim != 2 or 0 in embeddings.shape:
        raise GalleryError(
            f"expected embeddings (k, D) float32, found {embeddings.shape} {embeddings.dtype}: "
            "enrol what an embedder returned"
        )
    if not _is_unit_norm(embeddings):
        raise GalleryError("expected embeddings of unit norm: enrol what an embedder returned")
    return np.ascontiguousarray(embeddings, STORED)


def _is_unit_norm(rows: NDArray[np.float32]) -> bool:
    """False for a row with a value that is not finite, too."""
    norm = np.linalg.norm(rows.astype(np.float64), axis=1)
    return bool((np.abs(norm - 1) <= NORM_TOLERANCE).all())


def _short(model_id: str) -> str:
    return model_id if len(model_id) <= 8 else f"{model_id[:8]}…"
