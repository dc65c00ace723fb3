"""What the door did, and what was done to it, in the audit log."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from limen.device.events import Event, EventKind, utc_now
from limen.device.gallery import Gallery
from limen.errors import GalleryError

logger = logging.getLogger(__name__)

# What the door did or would not do. Each is on record, or the door stops.
DECIDED = frozenset(
    {
        EventKind.STARTED,
        EventKind.OPENED,
        EventKind.ASKED,
        EventKind.REFUSED,
        EventKind.RELOADED,
        EventKind.STOPPED,
    }
)
# What was done to the door, or befell it. It may happen just while the gallery cannot be written,
# and is then entered late, with the time at which it happened.
BEFELL = frozenset(
    {
        EventKind.DOOR_FORCED,
        EventKind.DOOR_HELD_OPEN,
        EventKind.EXIT_REQUESTED,
        EventKind.TAMPER,
        EventKind.CAMERA,
        EventKind.GALLERY,
        EventKind.DRIFT,
        EventKind.SOURCE_LOST,
    }
)
# Not kept: what led to an entry, or follows from one. The events' file has them.
LEFT_OUT = frozenset(
    {EventKind.DECISION, EventKind.LOCKED, EventKind.DOOR_OPENED, EventKind.DOOR_CLOSED}
)
MAX_LATE = 256


class AuditSink:
    """Keeps the door's events in its gallery's audit log. No pictures; scores only where asked for.

    An entry of what the door did that cannot be written raises GalleryError, which stops the door,
    locked. Of what befell the door, up to 256 entries wait for the gallery to be writable again;
    how many were more is then an entry of its own, 'events lost'.
    """

    def __init__(
        self,
        gallery: Gallery,
        *,
        with_scores: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._gallery = gallery
        self._with_scores = with_scores
        self._clock = clock
        self._late: deque[tuple[str, dict[str, object]]] = deque()
        self._lost = 0

    def emit(self, event: Event) -> None:
        """Write an entry for what is kept."""
        if event.kind in LEFT_OUT:
            return
        kind, detail = event.kind.value, self._detail(event)
        if event.kind in BEFELL:
            try:
                self._write_late()
                self._gallery.audit.note(kind, detail)
            except GalleryError as error:
                logger.warning(
                    "the audit log cannot be written, %s is entered later: %s", kind, error
                )
                self._put_off(kind, detail)
            return
        self._write_late()
        self._gallery.audit.note(kind, detail, event.subject_id)

    def _detail(self, event: Event) -> dict[str, object]:
        detail: dict[str, object] = {}
        if event.reason:
            detail["reason"] = event.reason
        if event.votes is not None:
            detail["votes"] = event.votes
        decision = event.decision
        if self._with_scores and decision is not None and decision.candidate is not None:
            detail["score"] = round(decision.candidate.score, 4)
            detail["threshold"] = round(decision.threshold, 4)
        return detail

    def _put_off(self, kind: str, detail: dict[str, object]) -> None:
        if len(self._late) >= MAX_LATE:
            self._lost += 1
            return
        happened_at = self._clock().astimezone(UTC).isoformat(timespec="milliseconds")
        self._late.append((kind, {**detail, "happened_at": happened_at}))

    def _write_late(self) -> None:
        while self._late:
            self._gallery.audit.note(*self._late[0])
            self._late.popleft()  # only now: an entry is late, or written, never neither
        if self._lost:
            self._gallery.audit.note("events lost", {"events": self._lost})
            self._lost = 0
