"""The running door: the one loop that takes frames, drives the door and tells of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from limen.device.door import Door, DoorStep
from limen.device.events import Event, EventKind, EventSink
from limen.device.gallery import Gallery
from limen.device.permission import Permission
from limen.device.recogniser import Recogniser
from limen.device.sources import FrameSource
from limen.device.values import Verdict
from limen.errors import CalibrationError, ModelMismatchError, SourceError

ERASE_EVERY = timedelta(hours=1)

logger = logging.getLogger(__name__)


class StopReason(StrEnum):
    """Why a door stopped; the reason of its `stopped` event."""

    END_OF_SOURCE = "end of source"
    STOP_ASKED = "stop asked for"
    INTERRUPTED = "interrupted"
    SOURCE_LOST = "source lost"
    FAILED = "failed"


def load_recogniser(gallery: Gallery, model_id: str) -> Recogniser:
    """The recogniser of a gallery at its operating point.

    ModelMismatchError where the gallery is of another model than `model_id`; CalibrationError
    where it has no operating point. A stale point is used with a warning: the gallery has changed,
    the evidence has not.
    """
    found = gallery.model_id
    if found != model_id:
        raise ModelMismatchError(
            f"gallery holds templates of model {found[:8]}…, bundle is {model_id[:8]}…: "
            "enrol again with 'limen enrol', or install the old bundle"
        )
    point = gallery.operating_point()
    if point is None:
        raise CalibrationError(
            "no threshold was calibrated for this gallery and model: enrol somebody, then run "
            "'limen calibrate'"
        )
    if gallery.calibration_is_stale():
        logger.warning("the gallery changed after it was calibrated: run 'limen calibrate' again")
    references = gallery.references()
    return Recogniser(references, point.threshold, permission=Permission(references))


def run_door(
    source: FrameSource,
    door: Door,
    sinks: Sequence[EventSink] = (),
    *,
    stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[DoorStep], None] | None = None,
    gallery: Gallery | None = None,
) -> StopReason:
    """Run `door` on the frames of `source` until they end or `stop()` is true.

    With a `gallery`, the recogniser is loaded from it first and again whenever it changed.
    stop: asked before each frame, such as `threading.Event().is_set`. Whatever ends the loop, the
    door is locked, the source closed, and `stopped` told with the reason; then an exception goes
    on to the caller: SourceError for a lost source, whatever the door, a sink or `on_step` raised.
    """
    loop = _Loop(door, sinks, gallery)
    reason = StopReason.FAILED
    try:
        with source:
            loop.start()
            for frame in source:
                if stop():
                    reason = StopReason.STOP_ASKED
                    break
                loop.reload()
                step = door.step(frame)
                loop.tell(step)
                if on_step is not None:
                    on_step(step)
            else:
                reason = StopReason.END_OF_SOURCE
    except KeyboardInterrupt:
        reason = StopReason.INTERRUPTED
        raise
    except SourceError:
        reason = StopReason.SOURCE_LOST
        raise
    finally:
        try:
            door.lock.lock()
        finally:
            loop.end(reason)
    return reason


class _Loop:
    """What the loop remembers from frame to frame."""

    def __init__(self, door: Door, sinks: Sequence[EventSink], gallery: Gallery | None) -> None:
        self._door = door
        self._sinks = sinks
        self._gallery = gallery
        self._changes: int | None = None
        self._erased_at: datetime | None = None
        self._locked = True

    def start(self) -> None:
        self._door.lock.lock()
        self.reload()
        self._emit(Event(EventKind.STARTED))

    def reload(self) -> None:
        if self._gallery is None:
            return
        self._erase_expired(self._gallery)
        changes = self._gallery.change_counter()  # before the references: a change is never missed
        if changes != self._changes:
            self._door.replace_recogniser(load_recogniser(self._gallery, self._door.model_id))
            self._changes = changes

    def _erase_expired(self, gallery: Gallery) -> None:
        """Once an hour; whoever's time is over may not enter from that second on anyway."""
        now = datetime.now(UTC)
        if self._erased_at is None or now - self._erased_at >= ERASE_EVERY:
            self._erased_at = now
            gallery.erase_expired(now)

    def tell(self, step: DoorStep) -> None:
        admission, decision = step.admission, step.decision
        self._emit(Event(EventKind.DECISION, admission.reason, decision, votes=admission.votes))
        if step.locked and not self._locked:
            self._emit(Event(EventKind.LOCKED))
        if admission.verdict is Verdict.OPEN:
            self._emit(
                Event(
                    EventKind.OPENED,
                    admission.reason,
                    decision,
                    admission.subject_id,
                    admission.votes,
                )
            )
        elif admission.verdict is Verdict.REFUSE:
            self._emit(Event(EventKind.REFUSED, admission.reason, decision, votes=admission.votes))
        self._locked = step.locked

    def end(self, reason: StopReason) -> None:
        """Tell the end to every sink that still listens."""
        last = [Event(EventKind.STOPPED, reason.value)]
        if reason is StopReason.SOURCE_LOST:
            last.insert(0, Event(EventKind.SOURCE_LOST))
        if not self._locked:
            last.insert(0, Event(EventKind.LOCKED, "stopped"))
        for sink in self._sinks:
            try:
                for event in last:
                    sink.emit(event)
            except (OSError, ValueError) as error:  # a closed pipe must not hide why it stopped
                logger.warning("the end could not be told: %s", error)

    def _emit(self, event: Event) -> None:
        for sink in self._sinks:
            sink.emit(event)
