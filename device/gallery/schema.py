"""The tables of a gallery's file, and how older files become newer ones.

A file says its version in `user_version`. Opening migrates step by step, each step in one
transaction: a process killed in the middle leaves the old version, whole.
"""

from __future__ import annotations

import sqlite3
from functools import cache

# "lmGa": tells a gallery from everybody else's SQLite files.
APPLICATION_ID = 0x6C6D4761
SCHEMA_VERSION = 3

# Version 1 kept names and templates in the clear.
VERSION_1 = """
CREATE TABLE door (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    model_id TEXT NOT NULL,
    changes INTEGER NOT NULL DEFAULT 0,
    reference_changes INTEGER NOT NULL DEFAULT 0,
    operating_point INTEGER REFERENCES operating_point (id)
) STRICT;
CREATE TABLE subject (
    id INTEGER PRIMARY KEY,
    subject_id TEXT NOT NULL UNIQUE,
    enrolled_at TEXT NOT NULL
) STRICT;
CREATE TABLE reference (
    id INTEGER PRIMARY KEY,
    subject INTEGER NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    embedding BLOB NOT NULL,
    quality REAL NOT NULL,
    enrolled_at TEXT NOT NULL
) STRICT;
CREATE INDEX reference_subject ON reference (subject);
CREATE TABLE operating_point (
    id INTEGER PRIMARY KEY,
    model_id TEXT NOT NULL,
    reference_changes INTEGER NOT NULL,
    point TEXT NOT NULL
) STRICT;
"""

# `door` has one row. `changes` counts every change that a running door must notice,
# `reference_changes` those of references; an operating point remembers the latter, and is stale
# once they differ. `purge_due` is set while deleted records may still lie in free pages.
# Whatever is called `sealed` is an AES-256-GCM record. `tag` is a keyed hash of the subject id:
# it finds a subject without telling who it is.
VERSION_2 = """
CREATE TABLE door (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    gallery_uid BLOB NOT NULL,
    model_id TEXT NOT NULL,
    changes INTEGER NOT NULL DEFAULT 0,
    reference_changes INTEGER NOT NULL DEFAULT 0,
    operating_point INTEGER REFERENCES operating_point (id),
    purge_due INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE keyring (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    kind TEXT NOT NULL,
    salt BLOB NOT NULL,
    cost TEXT NOT NULL,
    sealed_data_key BLOB NOT NULL,
    sealed_log_key BLOB NOT NULL,
    sealed_signing_key BLOB NOT NULL
) STRICT;
CREATE TABLE subject (
    id INTEGER PRIMARY KEY,
    uid BLOB NOT NULL UNIQUE,
    tag BLOB NOT NULL UNIQUE,
    sealed BLOB NOT NULL,
    sealed_audit_key BLOB NOT NULL
) STRICT;
CREATE TABLE reference (
    id INTEGER PRIMARY KEY,
    subject INTEGER NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    sealed BLOB NOT NULL,
    sealed_crop BLOB
) STRICT;
CREATE INDEX reference_subject ON reference (subject);
CREATE TABLE negative (
    id INTEGER PRIMARY KEY,
    subject INTEGER NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    sealed BLOB NOT NULL
) STRICT;
CREATE INDEX negative_subject ON negative (subject);
CREATE TABLE operating_point (
    id INTEGER PRIMARY KEY,
    reference_changes INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
CREATE TABLE backup (
    id INTEGER PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    body BLOB,
    personal BLOB,
    digest BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE audit_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL,
    hash BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;
CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT;
"""

# Version 3 can be on its way from one model to another (`moving`). `other_template` holds templates
# that the model of `door` cannot compare: of kind 'staged', what a reference's crop is to the model
# that comes; 'reference' and 'negative', what the model of `former` still serves.
ADDED_IN_3 = """
CREATE TABLE former (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    model_id TEXT NOT NULL,
    operating_point INTEGER REFERENCES operating_point (id)
) STRICT;
CREATE TABLE other_template (
    id INTEGER PRIMARY KEY,
    subject INTEGER NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    reference INTEGER REFERENCES reference (id) ON DELETE CASCADE,
    model_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('staged', 'reference', 'negative')),
    sealed BLOB NOT NULL
) STRICT;
CREATE INDEX other_template_subject ON other_template (subject);
CREATE UNIQUE INDEX other_template_reference ON other_template (reference);
"""

VERSIONS = {1: VERSION_1, 2: VERSION_2, 3: VERSION_2 + ADDED_IN_3}


def statements(version: int) -> list[str]:
    """The statements that make an empty gallery of a version."""
    return split(VERSIONS[version])


def split(script: str) -> list[str]:
    """The statements of a script, for a transaction, which `executescript` would end."""
    return [statement for statement in script.split(";") if statement.strip()]


def is_schema(connection: sqlite3.Connection, version: int) -> bool:
    """Whether the file has the tables of that version and nothing else: no trigger, no view."""
    return _described(connection) == _expected(version)


@cache
def _expected(version: int) -> list[tuple[str, ...]]:
    empty = sqlite3.connect(":memory:")
    try:
        for statement in statements(version):
            empty.execute(statement)
        return _described(empty)
    finally:
        empty.close()


def _described(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    # sqlite_stat tables and automatic indices carry no SQL of ours.
    return sorted(
        (kind, name, table, " ".join(sql.split())) for kind, name, table, sql in rows if sql
    )
