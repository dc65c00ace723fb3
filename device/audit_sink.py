"""What the door did, in the audit log: opened for whom, refused, started, stopped."""

from __future__ import annotations

from limen.device.events import Event, EventKind
from limen.device.gallery import Gallery

_KINDS = (EventKind.STARTED, EventKind.OPENED, EventKind.REFUSED, EventKind.STOPPED)


class AuditSink:
    """Keeps the door's events in its gallery's audit log. No pictures; scores only where asked for.

    Decisions of single frames are not kept: what they led to is. An entry that cannot be written
    raises GalleryError, which stops the door, locked: what it does is on record, or not done.
    """

    def __init__(self, gallery: Gallery, *, with_scores: bool = False) -> None:
        self._gallery = gallery
        self._with_scores = with_scores

    def emit(self, event: Event) -> None:
        """Write an entry for what is kept."""
        if event.kind not in _KINDS:
            return
        detail: dict[str, object] = {}
        if event.reason:
            detail["reason"] = event.reason
        if event.votes is not None:
            detail["votes"] = event.votes
        decision = event.decision
        if self._with_scores and decision is not None and decision.candidate is not None:
            detail["score"] = round(decision.candidate.score, 4)
            detail["threshold"] = round(decision.threshold, 4)
        self._gallery.audit.note(event.kind.value, detail, event.subject_id)
