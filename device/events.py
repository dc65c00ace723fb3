"""What a door tells: one JSON object a line, without names or scores unless they are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, TextIO

from limen.device.values import Decision, Outcome


class EventKind(StrEnum):
    """What happened."""

    STARTED = "started"
    DECISION = "decision"
    OPENED = "opened"
    ASKED = "asked"
    REFUSED = "refused"
    LOCKED = "locked"
    DOOR_OPENED = "door_opened"
    DOOR_CLOSED = "door_closed"
    DOOR_FORCED = "door_forced"
    DOOR_HELD_OPEN = "door_held_open"
    EXIT_REQUESTED = "exit_requested"
    TAMPER = "tamper"
    CAMERA = "camera"
    GALLERY = "gallery"
    RELOADED = "reloaded"
    DRIFT = "drift"
    SOURCE_LOST = "source_lost"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at the door; what of it is told is the sink's choice.

    reason: short words; decision: the one that led to it, if any; subject_id: who was let in.
    """

    kind: EventKind
    reason: str = ""
    decision: Decision | None = None
    subject_id: str | None = None
    votes: int | None = None


class EventSink(Protocol):
    """Takes events, in order. An OSError ends the door, locked."""

    def emit(self, event: Event) -> None:
        """Take one event."""
        ...


def utc_now() -> datetime:
    """The wall clock, UTC."""
    return datetime.now(UTC)


class JsonLines:
    """Writes events to a stream, a line each, flushed.

    `at` is UTC, ISO 8601. with_decisions: every frame's decision too; with_subjects: who was let
    in or matched, never whom a stranger resembles; with_scores: cosine scores and thresholds.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        clock: Callable[[], datetime] = utc_now,
        with_decisions: bool = False,
        with_subjects: bool = False,
        with_scores: bool = False,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._with_decisions = with_decisions
        self._with_subjects = with_subjects
        self._with_scores = with_scores

    def emit(self, event: Event) -> None:
        if event.kind is EventKind.DECISION and not self._with_decisions:
            return
        line = json.dumps(self._told(event), ensure_ascii=False, separators=(",", ":"))
        self._stream.write(line + "\n")
        self._stream.flush()

    def _told(self, event: Event) -> dict[str, Any]:
        now = self._clock().astimezone(UTC)
        told: dict[str, Any] = {
            "at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "event": event.kind.value,
        }
        if event.reason:
            told["reason"] = event.reason
        if event.votes is not None:
            told["votes"] = event.votes
        decision = event.decision
        subject_id = event.subject_id
        if decision is not None:
            told["frame"] = decision.sequence
            told["outcome"] = decision.outcome.value
            told["faces"] = decision.faces
            told["quality"] = round(decision.quality, 3)
            if decision.track is not None:
                told["track"] = decision.track
            if self._with_scores:
                # The frames' clock too: a policy can be replayed on such lines (`limen simulate`).
                told["captured_at_s"] = decision.captured_at_s
                told["threshold"] = decision.threshold
                told["lookalike"] = decision.lookalike
                if decision.candidate is not None:
                    told["score"] = decision.candidate.score
                if decision.runner_up is not None:
                    told["runner_up_score"] = decision.runner_up.score
            if decision.outcome is Outcome.MATCH and decision.candidate is not None:
                subject_id = subject_id or decision.candidate.subject_id
        if self._with_subjects and subject_id is not None:
            told["subject_id"] = subject_id
        return told
