"""The verb run: the door itself."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from limen.cli.options import (
    BundleOption,
    ConfigOption,
    GalleryOption,
    JsonOption,
    PrecisionOption,
    RuntimeOption,
    SourceOption,
    YuNetOption,
    gallery_path,
    open_former,
    open_gallery,
    open_recognition,
    require_owner,
)
from limen.cli.output import note


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(run)


def run(
    source: SourceOption = None,
    config: ConfigOption = None,
    gallery: GalleryOption = None,
    votes: Annotated[int | None, typer.Option(min=1, help="Matches that open the door…")] = None,
    window: Annotated[int | None, typer.Option(min=1, help="… among so many decisions.")] = None,
    min_face_px: Annotated[int | None, typer.Option(min=20, help="Smallest face, width.")] = None,
    subjects: Annotated[bool, typer.Option(help="Events say who was let in.")] = False,
    scores: Annotated[bool, typer.Option(help="Events carry scores and thresholds.")] = False,
    decisions: Annotated[bool, typer.Option(help="An event for every frame.")] = False,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    former_bundle: Annotated[
        Path | None,
        typer.Option(help="The bundle that the gallery is moving away from, served beside it."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Watch the door: frame, decision, lock. Events go to stdout, one JSON object a line.

    The lock is simulated unless the configuration names a GPIO pin. Ends with the source, or on
    SIGINT or SIGTERM; however it ends, the door is locked. SIGHUP reads the configuration again.
    (--json changes nothing: events always are.)
    """
    from limen.device.adapting import Adapter
    from limen.device.assembly import make_door, make_gatekeeper, open_keypad, reconfigure
    from limen.device.audit_sink import AuditSink
    from limen.device.camera_health import HealthMonitor
    from limen.device.config import DoorConfig, load_config
    from limen.device.door import Door, DoorStep
    from limen.device.drift_monitor import DriftMonitor
    from limen.device.event_file import EventFile
    from limen.device.events import Event, EventKind, EventSink, JsonLines
    from limen.device.gatekeeper import Demand
    from limen.device.loading import load_recogniser
    from limen.device.lock_config import open_lock
    from limen.device.notify import ServiceManager
    from limen.device.reconnecting import ReconnectingSource
    from limen.device.runtime import run_door
    from limen.device.sources import FrameClock, is_live, open_source
    from limen.device.trusted_clock import TrustedClock
    from limen.device.watch import Attendants

    given: dict[str, Any] = {
        "source": source,
        "gallery": gallery if config or gallery else gallery_path(None),
        "bundle": bundle,
        "former_bundle": former_bundle,
        "runtime": runtime,
        "precision": precision,
        "yunet": yunet,
        "votes": votes,
        "window": window,
        "min_face_px": min_face_px,
    }
    settings = _settled(load_config(config) if config else DoorConfig(), given)
    stop, hang_up = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, lambda *_: hang_up.set())
    ready = open_recognition(
        settings.bundle, settings.runtime, settings.precision, settings.yunet, settings.gallery
    )
    detector, embedder = ready.detector, ready.embedder
    del ready  # the bundle's other graphs are not needed any more: 11 MB
    lookalikes = settings.second_factor.demand is Demand.CONTESTED
    wall_clock = TrustedClock(settings.clock_trust)
    live = is_live(settings.source)

    def hung_up() -> bool:
        if not hang_up.is_set():
            return False
        hang_up.clear()
        return True

    def reload(door: Door) -> None:
        nonlocal settings
        if config is None:
            return
        new = _settled(load_config(config), given)
        settings = reconfigure(door, gatekeeper, settings, new)

    def lines(stream: TextIO) -> JsonLines:
        return JsonLines(
            stream, with_decisions=decisions, with_subjects=subjects, with_scores=scores
        )

    with contextlib.ExitStack() as stack:
        # Not bound to the door's model: while a gallery moves, that may be the former one.
        opened = stack.enter_context(open_gallery(settings.gallery, key=settings.key))
        gatekeeper = make_gatekeeper(settings, opened)
        former = open_former(opened, settings.former_bundle, settings.yunet, detector)
        if settings.lock.kind == "gpio":
            require_owner(opened)
        recogniser = load_recogniser(
            opened,
            embedder.model_id,
            find_lookalikes=lookalikes,
            wall_clock=wall_clock,
            former=former,
        )
        keypad = open_keypad(settings)
        if keypad is not None:
            stack.callback(keypad.close)
        sinks: list[EventSink] = [lines(sys.stdout)]
        if settings.events is not None:
            file = EventFile(
                settings.events,
                lines,
                max_bytes=int(settings.events_max_mb * 1e6),
                kept=settings.events_kept,
            )
            stack.callback(file.close)
            sinks.append(file)
        if settings.audit:
            sinks.append(AuditSink(opened, with_scores=settings.audit_scores))
        manager = ServiceManager()

        def drifted(reasons: tuple[str, ...]) -> None:
            manager.status("recalibrate: the door has drifted")
            for sink in sinks:
                sink.emit(Event(EventKind.DRIFT, "recalibrate: " + "; ".join(reasons)))

        # A recording is of another day: it says nothing of this door's drift.
        monitor = DriftMonitor(opened, drifted) if settings.drift and live else None
        adapter = Adapter(
            opened,
            embedder.model_id,
            lambda probe: door.recogniser.identify(probe, 2),
            wall_clock,
        )
        sinks.append(adapter)

        def seen(step: DoorStep) -> None:
            adapter.see(step)
            if monitor is not None:
                monitor.see(step)

        # A simulated pulse lasts in the source's own time, so that a recording replays truly.
        frames: FrameClock | ReconnectingSource
        if live and settings.reconnect:
            frames = ReconnectingSource(partial(open_source, settings.source))
            clock = time.monotonic
        else:
            frames = FrameClock(open_source(settings.source))
            clock = time.monotonic if live else frames
        lock = stack.enter_context(open_lock(settings.lock, clock))
        door = make_door(settings, detector, embedder, recogniser, gatekeeper, lock)
        if monitor is not None:
            stack.callback(monitor.close)
        reason = run_door(
            frames,
            door,
            sinks,
            stop=stop.is_set,
            on_step=seen,
            gallery=opened,
            attendants=Attendants(
                keypad=keypad,
                manager=manager,
                health=HealthMonitor() if live else None,
                hang_up=hung_up,
                reload=reload,
                find_lookalikes=lookalikes,
                wall_clock=wall_clock,
                former=former,
            ),
        )
    note(f"stopped: {reason.value}; the door is locked")


def _settled(config: Any, given: dict[str, Any]) -> Any:
    """`config` with the options that were given, validated together."""
    from pydantic import ValidationError

    from limen.errors import ConfigError
    from limen.settings import explain_validation_error

    changes = {key: value for key, value in given.items() if value is not None}
    try:
        return type(config).model_validate({**config.model_dump(), **changes})
    except ValidationError as error:
        raise ConfigError(explain_validation_error(error, type(config))) from error
