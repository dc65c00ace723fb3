"""What of the door's events is in the audit log, and when the log cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from limen.device.audit_sink import BEFELL, DECIDED, LEFT_OUT, MAX_LATE, AuditSink
from limen.device.events import Event, EventKind
from limen.device.fakes import FAKE_MODEL_ID, fake_embedding
from limen.device.gallery import Gallery
from limen.device.gallery.audit import AuditEntry
from limen.device.gallery.audit_log import AuditLog
from limen.device.values import Candidate, Decision, Outcome
from limen.errors import GalleryError

AT = "2026-11-01T12:00:00Z"
NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "g.sqlite", model_id=FAKE_MODEL_ID, create=True) as gallery:
        gallery.enrol("ann", np.stack([fake_embedding((250, 10, 10))]), [0.9], AT)
        yield gallery


def told(gallery: Gallery) -> list[AuditEntry]:
    """What the door's sink wrote, after what made the gallery."""
    assert gallery.audit.verify() == len(gallery.audit.entries())
    return gallery.audit.entries()[2:]


def test_every_kind_of_event_is_decided_on_once() -> None:
    assert set(EventKind) == DECIDED | BEFELL | LEFT_OUT
    assert len(DECIDED) + len(BEFELL) + len(LEFT_OUT) == len(EventKind)


@pytest.mark.parametrize("kind", sorted(set(EventKind) - LEFT_OUT))
def test_what_the_door_did_and_what_was_done_to_it_is_on_record(
    gallery: Gallery, kind: EventKind
) -> None:
    AuditSink(gallery).emit(Event(kind, "why"))
    assert [(e.kind, e.detail) for e in told(gallery)] == [(kind.value, {"reason": "why"})]


def test_who_was_let_in_or_asked_is_sealed_and_scores_are_left_out(gallery: Gallery) -> None:
    decision = Decision(Outcome.MATCH, Candidate("ann", 0.91234), 0.5, 7, 1.0)
    for with_scores in (False, True):
        sink = AuditSink(gallery, with_scores=with_scores)
        sink.emit(Event(EventKind.ASKED, "second factor needed", decision, "ann", 3))
        sink.emit(Event(EventKind.DECISION, "votes reached", decision, "ann", 3))
    without, with_them = told(gallery)
    assert without.detail == {"reason": "second factor needed", "votes": 3}
    assert with_them.detail == {**without.detail, "score": 0.9123, "threshold": 0.5}
    assert without.personal == with_them.personal == {"subject_id": "ann"}


class Held:
    """An audit log that another process holds for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held, note = False, AuditLog.note

        def guarded(log: AuditLog, *entry: object) -> None:
            if self.held:
                raise GalleryError("g.sqlite: another process holds the gallery")
            note(log, *entry)  # type: ignore[arg-type]

        monkeypatch.setattr(AuditLog, "note", guarded)


def test_what_befell_the_door_while_the_log_was_held_is_entered_late(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, sink = Held(monkeypatch), AuditSink(gallery, clock=lambda: NOON)
    log.held = True
    sink.emit(Event(EventKind.TAMPER))
    sink.emit(Event(EventKind.DOOR_FORCED))
    with pytest.raises(GalleryError):  # but nobody is let in off the record
        sink.emit(Event(EventKind.OPENED, subject_id="ann"))
    log.held = False
    sink.emit(Event(EventKind.STOPPED, "failed"))
    entries = told(gallery)
    assert [e.kind for e in entries] == ["tamper", "door_forced", "stopped"]
    assert entries[0].detail == {"happened_at": "2026-11-01T12:00:00.000+00:00"}


def test_events_that_wait_are_bounded_and_the_lost_ones_counted(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, sink = Held(monkeypatch), AuditSink(gallery)
    log.held = True
    for _ in range(MAX_LATE + 5):
        sink.emit(Event(EventKind.CAMERA, "black"))
    log.held = False
    sink.emit(Event(EventKind.CAMERA, "ok"))
    entries = told(gallery)
    assert len(entries) == MAX_LATE + 2
    assert (entries[-2].kind, entries[-2].detail) == ("events lost", {"events": 5})
