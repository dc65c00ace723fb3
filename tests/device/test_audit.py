"""The audit log: who did what, and that nobody can change it unseen."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import gallery_workload as workload
import pytest

from limen.device.gallery import Gallery
from limen.device.gallery.audit import AuditError, ranges

MODEL_ID, AT = workload.MODEL_ID, workload.AT
NOW = datetime(2026, 11, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gallery.db"
    with Gallery.open(
        path, model_id=MODEL_ID, create=True, actor="desk", clock=lambda: NOW
    ) as gallery:
        for name in ("ann", "bob", "cid"):
            gallery.enrol(name, workload.references(name), [0.5, 0.5], AT)
        gallery.rename("ann", "anna")
        gallery.remove("bob")
    return path


def test_every_change_is_in_the_log_with_who_and_when(path: Path) -> None:
    with Gallery.open(path) as gallery:
        entries = gallery.audit.entries()
        assert gallery.audit.verify() == len(entries) == 6
    assert [e.kind for e in entries] == [
        *("created", "enrolled", "enrolled", "enrolled"),
        *("renamed", "erased"),
    ]
    assert {e.actor for e in entries} == {"desk"}
    assert {e.at for e in entries} == {"2026-11-04T12:00:00.000+00:00"}


def test_personal_fields_are_readable_until_the_subject_is_erased(path: Path) -> None:
    with Gallery.open(path) as gallery:
        told = [e.personal for e in gallery.audit.entries()]
        assert told == [
            None,
            {"subject_id": "ann"},
            None,  # bob's: the key is gone, the entry and its place in the chain are not
            {"subject_id": "cid"},
            {"from": "ann", "to": "anna"},
            None,
        ]
    content = b"".join(p.read_bytes() for p in path.parent.iterdir())
    assert b"enrolled" not in content
    assert b"desk" not in content


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET body = (SELECT body FROM audit WHERE number = 2) WHERE number = 3",
        "UPDATE audit SET personal = (SELECT personal FROM audit WHERE number = 2) WHERE number = 4",
        "UPDATE audit SET personal = NULL WHERE number = 2",
        "UPDATE audit SET body = NULL, personal = NULL WHERE number = 2",
        "DELETE FROM audit WHERE number = 3",
        "DELETE FROM audit WHERE number = 6",
        "DELETE FROM audit",
        "DELETE FROM audit_head",
        "UPDATE audit SET hash = zeroblob(32) WHERE number = 3",
        "UPDATE audit SET digest = zeroblob(64) WHERE number = 3",
        "UPDATE audit SET number = number + 1 WHERE number = 6",
        "UPDATE audit_head SET number = 5",
        "UPDATE audit_head SET signature = zeroblob(64)",
        # two entries change places, hashes and all
        "UPDATE audit SET number = CASE number WHEN 2 THEN -3 WHEN 3 THEN -2 ELSE number END",
    ],
)
def test_changed_removed_or_moved_entry_is_found(path: Path, change: str) -> None:
    other = sqlite3.connect(path)
    other.execute(change)
    other.execute("UPDATE audit SET number = -number WHERE number < 0")
    other.commit()
    other.close()
    with Gallery.open(path) as gallery, pytest.raises(AuditError):
        gallery.audit.verify()


def test_log_that_was_put_back_is_found_with_a_head_that_was_noted(path: Path) -> None:
    old = path.read_bytes()
    with Gallery.open(path) as gallery:
        gallery.remove("cid")
        noted = gallery.audit.head()
        assert gallery.audit.verify(noted) == 7
    path.write_bytes(old)
    with Gallery.open(path) as gallery:
        gallery.audit.verify()  # the older state is whole in itself
        with pytest.raises(AuditError, match="was noted"):
            gallery.audit.verify(noted)
        gallery.remove("anna")
        with pytest.raises(AuditError, match="noted"):
            gallery.audit.verify(noted)


def test_retention_empties_entries_and_the_chain_holds(path: Path) -> None:
    later = NOW + timedelta(days=31)
    with Gallery.open(path, clock=lambda: later) as gallery:
        assert gallery.audit.prune({"enrolled": timedelta(days=60)}, later) == 0
        assert gallery.audit.prune({"enrolled": timedelta(days=30)}, later) == 3
        assert gallery.audit.prune({"enrolled": timedelta(days=30)}, later) == 0
        assert gallery.audit.verify() == 7
        kinds = [entry.kind for entry in gallery.audit.entries()]
    assert kinds == ["created", None, None, None, "renamed", "erased", "pruned"]
    other = sqlite3.connect(path)
    other.execute("UPDATE audit SET body = NULL, personal = NULL WHERE number = 5")
    other.commit()
    other.close()
    with Gallery.open(path) as gallery, pytest.raises(AuditError, match="entry 5 was emptied"):
        gallery.audit.verify()


def test_ranges() -> None:
    assert ranges([1, 2, 3, 7, 9, 10]) == [[1, 3], [7, 7], [9, 10]]
    assert ranges([]) == []
