"""What a running door remembers from frame to frame, attends to and tells.

The loop itself, which takes the frames, is `limen.device.runtime`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from limen.device.camera_health import HealthMonitor
from limen.device.door import Door, DoorStep
from limen.device.events import Event, EventKind, EventSink
from limen.device.former import Former
from limen.device.gallery import Gallery
from limen.device.keypad import Keypad
from limen.device.loading import load_recogniser
from limen.device.lock import NoticeKind
from limen.device.notify import ServiceManager
from limen.device.trusted_clock import WallTime, believed_now
from limen.device.values import Admission, Decision, Frame, Verdict
from limen.errors import GalleryError, LimenError, SourceError

ERASE_EVERY = timedelta(hours=1)
GALLERY_RETRY_S = 1.0

logger = logging.getLogger(__name__)


class StopReason(StrEnum):
    """Why a door stopped; the reason of its `stopped` event."""

    END_OF_SOURCE = "end of source"
    STOP_ASKED = "stop asked for"
    INTERRUPTED = "interrupted"
    SOURCE_LOST = "source lost"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attendants:
    """What a door that is left alone has around it; each may be missing.

    keypad: entries of a second factor; manager: systemd; health: judges the camera; hang_up: asked
    between frames whether the configuration is to be read again, which `reload` then does.
    find_lookalikes: whether the recogniser compares subjects with each other when it is loaded;
    wall_clock: by which the gallery's schedules and expiries are judged; former: the model that the
    gallery has come from, while it is on its way to another.
    """

    keypad: Keypad | None = None
    manager: ServiceManager = field(default_factory=lambda: ServiceManager({}))
    health: HealthMonitor | None = None
    hang_up: Callable[[], bool] = lambda: False
    reload: Callable[[Door], None] = lambda _: None
    find_lookalikes: bool = False
    wall_clock: Callable[[], WallTime] = believed_now
    former: Former | None = None


class StopAskedError(Exception):
    """Leaves the iteration, wherever it waits."""


class Watch:
    """What the loop remembers from frame to frame."""

    def __init__(
        self,
        door: Door,
        sinks: Sequence[EventSink],
        gallery: Gallery | None,
        attendants: Attendants,
        stop: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._door = door
        self._sinks = sinks
        self._gallery = gallery
        self._attendants = attendants
        self._stop = stop
        self._clock = clock
        self._changes: int | None = None
        self._erased_at: datetime | None = None
        self._gallery_lost = False
        self._gallery_next_s = 0.0
        self._locked = True
        self._now_s: float | None = None
        self._shape: tuple[int, ...] | None = None

    def start(self) -> None:
        self._door.lock.lock()
        self._load()
        self._attendants.manager.ready("watching")
        self._emit(Event(EventKind.STARTED))
        self._tell_notices()  # a casing that is open, a door that was forced in the meantime

    def stopping(self) -> None:
        self._attendants.manager.stopping()

    def attend(self) -> None:
        """What is due whether or not a frame comes: heartbeats, entries, signals."""
        if self._stop():
            raise StopAskedError
        self._door.lock.beat()
        self._attendants.manager.alive(self._clock())
        self._tell_notices()
        if self._attendants.hang_up():
            self._reconfigure()
        keypad = self._attendants.keypad
        while keypad is not None and (entry := keypad.take()) is not None:
            # Frames of a recording have their own time; a live door's goes on without frames.
            now_s = self._now_s if self._now_s is not None else self._clock()
            self._tell_admission(self._door.present(entry, now_s), None)
            self._locked = self._door.lock.is_locked

    def reload(self) -> bool:
        """Load the recogniser where the gallery changed. Whether there is one to go by."""
        if self._gallery is None:
            return True
        now_s = self._clock()
        if self._gallery_lost and now_s < self._gallery_next_s:
            return False
        try:
            self._load()
        except GalleryError as error:
            self._gallery_next_s = now_s + GALLERY_RETRY_S
            if not self._gallery_lost:
                self._gallery_lost = True
                self._door.forget()
                logger.warning("%s; nobody is recognised until it can be read", error)
                self._emit(Event(EventKind.GALLERY, "cannot be read"))
            return False
        if self._gallery_lost:
            self._gallery_lost = False
            logger.warning("the gallery can be read again")
            self._emit(Event(EventKind.GALLERY, "can be read again"))
        return True

    def _load(self) -> None:
        if self._gallery is None:
            return
        self._erase_expired(self._gallery)
        changes = self._gallery.change_counter()  # before the references: a change is never missed
        if changes != self._changes:
            self._door.replace_recogniser(
                load_recogniser(
                    self._gallery,
                    self._door.model_id,
                    find_lookalikes=self._attendants.find_lookalikes,
                    wall_clock=self._attendants.wall_clock,
                    former=self._attendants.former,
                )
            )
            self._changes = changes

    def _erase_expired(self, gallery: Gallery) -> None:
        """Once an hour; whoever's time is over may not enter from that second on anyway.

        A clock that is not trusted erases nobody: it may run years ahead.
        """
        wall = self._attendants.wall_clock()
        if wall.trusted and (self._erased_at is None or wall.now - self._erased_at >= ERASE_EVERY):
            self._erased_at = wall.now
            gallery.erase_expired(wall.now)

    def can_be_believed(self, frame: Frame) -> bool:
        """Whether a frame shows the door as it is: False while the camera is frozen."""
        self._now_s = frame.captured_at_s
        if self._shape is not None and frame.image.shape != self._shape:
            logger.warning(
                "the camera's pictures are %d x %d px now",
                frame.image.shape[1],
                frame.image.shape[0],
            )
            self._door.forget()
        self._shape = frame.image.shape
        health = self._attendants.health
        if health is None:
            return True
        was_frozen = health.is_frozen
        if health.see(frame):
            self._tell_health(health.health.value)
        if health.is_frozen and not was_frozen:
            self._door.forget()
        return not health.is_frozen

    def lost(self, error: SourceError) -> None:
        """A camera that will be waited for failed."""
        health = self._attendants.health
        if health is None or health.stopped():
            self._door.forget()
            self._tell_health("stopped")

    def tell(self, step: DoorStep) -> None:
        admission, decision = step.admission, step.decision
        self._emit(Event(EventKind.DECISION, admission.reason, decision, votes=admission.votes))
        if step.locked and not self._locked:
            self._emit(Event(EventKind.LOCKED))
        self._tell_admission(admission, decision)
        self._locked = step.locked

    def _tell_admission(self, admission: Admission, decision: Decision | None) -> None:
        kinds = {
            Verdict.OPEN: EventKind.OPENED,
            Verdict.ASK: EventKind.ASKED,
            Verdict.REFUSE: EventKind.REFUSED,
        }
        kind = kinds.get(admission.verdict)
        if kind is not None:
            self._emit(
                Event(kind, admission.reason, decision, admission.subject_id, admission.votes)
            )

    def _tell_notices(self) -> None:
        for notice in self._door.lock.take_notices():
            if notice.kind is NoticeKind.LOCKED:
                if not self._locked:
                    self._emit(Event(EventKind.LOCKED, notice.reason))
                self._locked = True
            elif notice.kind is not NoticeKind.RELEASED:
                self._emit(Event(EventKind(notice.kind.value), notice.reason))

    def _tell_health(self, health: str) -> None:
        logger.log(logging.INFO if health == "ok" else logging.WARNING, "camera: %s", health)
        self._attendants.manager.status(f"camera {health}")
        self._emit(Event(EventKind.CAMERA, health))

    def _reconfigure(self) -> None:
        manager = self._attendants.manager
        manager.reloading(self._clock())
        try:
            self._attendants.reload(self._door)
        except LimenError as error:
            logger.warning("the configuration was not taken over: %s", error)
            self._emit(Event(EventKind.RELOADED, "refused, the old one stays"))
        else:
            self._emit(Event(EventKind.RELOADED))
        manager.ready("watching")

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
