"""The running door: the one loop that takes frames, drives the door and tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from limen.device.door import Door, DoorStep
from limen.device.events import EventSink
from limen.device.gallery import Gallery
from limen.device.reconnecting import ReconnectingSource
from limen.device.sources import FrameSource
from limen.device.watch import Attendants, StopAskedError, StopReason, Watch
from limen.errors import SourceError


def run_door(
    source: FrameSource,
    door: Door,
    sinks: Sequence[EventSink] = (),
    *,
    stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[DoorStep], None] | None = None,
    gallery: Gallery | None = None,
    attendants: Attendants | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> StopReason:
    """Run `door` on the frames of `source` until they end or `stop()` is true.

    With a `gallery`, the recogniser is loaded from it first and again whenever it changed; while it
    cannot be read, nobody is recognised, and it is tried again every second.
    stop: asked before each frame and while one is awaited, such as `threading.Event().is_set`.
    clock: that of a live source's frames. Whatever ends the loop, the door is locked, the source
    closed, and `stopped` told with the reason; then an exception goes on to the caller: SourceError
    for a lost source, LockError for a lost lock, whatever the door, a sink or `on_step` raised.
    """
    watch = Watch(door, sinks, gallery, attendants or Attendants(), stop, clock)
    reason = StopReason.FAILED
    try:
        with source:
            source.when_idle(watch.attend)
            if isinstance(source, ReconnectingSource):
                source.when_lost(watch.lost)
            watch.start()
            for frame in source:
                watch.attend()
                if watch.reload() and watch.can_be_believed(frame):
                    step = door.step(frame)
                    watch.tell(step)
                    if on_step is not None:
                        on_step(step)
            reason = StopReason.END_OF_SOURCE
    except StopAskedError:
        reason = StopReason.STOP_ASKED
    except KeyboardInterrupt:
        reason = StopReason.INTERRUPTED
        raise
    except SourceError:
        reason = StopReason.SOURCE_LOST
        raise
    finally:
        watch.stopping()
        try:
            door.lock.lock()
        finally:
            watch.end(reason)
    return reason
