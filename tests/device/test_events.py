from __future__ import annotations

import io
import json
from datetime import datetime, timedelta, timezone
from typing import Any

from limen.device.events import Event, EventKind, JsonLines
from limen.device.values import Candidate, Decision, Outcome

NOON = datetime(2026, 11, 1, 13, 0, 0, 250_000, timezone(timedelta(hours=1)))
MATCH = Decision(Outcome.MATCH, Candidate("Zoë", 0.875), 0.5, 42, 7.0, quality=0.5, faces=1)
STRANGER = Decision(Outcome.NO_MATCH, Candidate("Zoë", 0.125), 0.5, 43, 7.1, faces=1)


def told(event: Event, **wishes: bool) -> list[dict[str, Any]]:
    stream = io.StringIO()
    JsonLines(stream, clock=lambda: NOON, **wishes).emit(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


OPENED = Event(EventKind.OPENED, "votes reached", MATCH, "Zoë", 3)


def test_event_is_one_line_in_utc_without_names_or_scores() -> None:
    assert told(OPENED) == [
        {
            "at": "2026-11-01T12:00:00.250Z",
            "event": "opened",
            "reason": "votes reached",
            "votes": 3,
            "frame": 42,
            "outcome": "match",
            "faces": 1,
            "quality": 0.5,
        }
    ]


def test_names_and_scores_are_told_where_asked_for() -> None:
    (line,) = told(OPENED, with_subjects=True, with_scores=True)
    assert (line["subject_id"], line["score"], line["threshold"]) == ("Zoë", 0.875, 0.5)
    assert "subject_id" not in told(OPENED, with_scores=True)[0]
    assert "score" not in told(OPENED, with_subjects=True)[0]


def test_whom_a_stranger_resembles_is_never_told() -> None:
    event = Event(EventKind.REFUSED, "votes not reached", STRANGER)
    (line,) = told(event, with_subjects=True, with_scores=True, with_decisions=True)
    assert "subject_id" not in line


def test_decisions_are_told_only_where_asked_for() -> None:
    event = Event(EventKind.DECISION, "more votes needed", MATCH)
    assert told(event) == []
    assert told(event, with_decisions=True)[0]["event"] == "decision"


def test_line_break_in_a_reason_stays_within_its_line() -> None:
    assert told(Event(EventKind.STOPPED, "a\nb"))[0]["reason"] == "a\nb"
