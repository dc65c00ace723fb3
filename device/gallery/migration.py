"""From an older file to the schema in force, in the transaction under way."""

from __future__ import annotations

import sqlite3

from limen.calibration.operating_point import OperatingPoint
from limen.device.gallery.points import seal_point
from limen.device.gallery.records import insert_subject
from limen.device.gallery.schema import ADDED_IN_3, SCHEMA_VERSION, split, statements
from limen.device.gallery.templates import (
    decoded_rows,
    reference_context,
    seal_template,
)
from limen.device.gallery.vault import Vault
from limen.device.subjects import SubjectDetails


def migrate_from_1(connection: sqlite3.Connection, vault: Vault) -> None:
    """Seal what version 1 kept in the clear. The free pages are purged after the commit.

    GalleryError where a reference is damaged: nothing is changed then.
    """
    (door,) = connection.execute("SELECT * FROM door").fetchall()
    _, model_id, changes, reference_changes, point_in_force = door
    subjects = connection.execute("SELECT id, subject_id, enrolled_at FROM subject").fetchall()
    references = connection.execute(
        "SELECT subject, embedding, quality, enrolled_at FROM reference ORDER BY id"
    ).fetchall()
    rows = decoded_rows([embedding for _, embedding, _, _ in references])
    points = connection.execute(
        "SELECT id, model_id, reference_changes, point FROM operating_point ORDER BY id"
    ).fetchall()
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.execute("UPDATE door SET operating_point = NULL")
    for table in ("reference", "subject", "door", "operating_point"):
        connection.execute(f"DROP TABLE {table}")
    for statement in statements(SCHEMA_VERSION):
        connection.execute(statement)
    for number, _, at_changes, text in points:
        connection.execute(
            "INSERT INTO operating_point (id, reference_changes, sealed) VALUES (?, ?, ?)",
            (number, at_changes, seal_point(vault, OperatingPoint.from_json(text))),
        )
    connection.execute(
        "INSERT INTO door VALUES (1, ?, ?, ?, ?, ?, 1)",
        (vault.gallery_uid, model_id, changes + 1, reference_changes, point_in_force),
    )
    stored = {
        number: insert_subject(connection.execute, vault, subject_id, enrolled_at, SubjectDetails())
        for number, subject_id, enrolled_at in subjects
    }
    for row, (number, _, quality, enrolled_at) in zip(rows, references, strict=True):
        subject = stored[number]
        bound_to = reference_context(subject.key.uid, model_id)
        connection.execute(
            "INSERT INTO reference (subject, sealed) VALUES (?, ?)",
            (subject.row, seal_template(vault.records, row, quality, enrolled_at, bound_to)),
        )


def migrate_from_2(connection: sqlite3.Connection) -> None:
    """Add the tables of version 3. Nothing else changes."""
    for statement in split(ADDED_IN_3):
        connection.execute(statement)
