"""The verb run: the door itself."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from limen.cli.options import (
    BundleOption,
    GalleryOption,
    JsonOption,
    PrecisionOption,
    RuntimeOption,
    YuNetOption,
    gallery_path,
    open_gallery,
    open_recognition,
)
from limen.cli.output import note


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(run)


def run(
    source: Annotated[
        str | None, typer.Option(help="camera, camera:N, a video, a folder, a picture, rtsp://…")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A door's TOML file; options win over it.")
    ] = None,
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
    json: JsonOption = False,
) -> None:
    """Watch the door: frame, decision, lock. Events go to stdout, one JSON object a line.

    The lock is simulated unless the configuration names a GPIO pin. Ends with the source, or on
    SIGINT or SIGTERM; however it ends, the door is locked. (--json changes nothing: events always are.)
    """
    from limen.device.admission import Admitter
    from limen.device.audit_sink import AuditSink
    from limen.device.config import DoorConfig, load_config
    from limen.device.door import Door
    from limen.device.events import EventSink, JsonLines
    from limen.device.lock import SimulatedLock, open_lock
    from limen.device.runtime import load_recogniser, run_door
    from limen.device.sources import FrameClock, open_source

    given: dict[str, Any] = {
        "source": source,
        "gallery": gallery if config or gallery else gallery_path(None),
        "bundle": bundle,
        "runtime": runtime,
        "precision": precision,
        "yunet": yunet,
        "votes": votes,
        "window": window,
        "min_face_px": min_face_px,
    }
    settings = _settled(load_config(config) if config else DoorConfig(), given)
    ready = open_recognition(settings.bundle, settings.runtime, settings.precision, settings.yunet)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    frames = FrameClock(open_source(settings.source))
    with open_gallery(
        settings.gallery, model_id=ready.embedder.model_id, key=settings.key
    ) as opened:
        recogniser = load_recogniser(opened, ready.embedder.model_id)
        # A simulated pulse lasts in the source's own time, so that a recording replays truly.
        lock = (
            SimulatedLock(frames)
            if settings.lock.kind == "simulated"
            else open_lock("gpio", settings.lock.pin, settings.lock.active_high)
        )
        with lock:
            door = Door(
                ready.detector,
                ready.embedder,
                recogniser,
                Admitter(settings.admission_policy()),
                lock,
                unlock_for_s=settings.unlock_for_s,
                min_quality=settings.min_quality,
                min_face_px=settings.min_face_px,
            )
            sink = JsonLines(
                sys.stdout,
                with_decisions=decisions,
                with_subjects=subjects,
                with_scores=scores,
            )
            sinks: list[EventSink] = [sink]
            if settings.audit:
                sinks.append(AuditSink(opened, with_scores=settings.audit_scores))
            reason = run_door(frames, door, sinks, stop=stop.is_set, gallery=opened)
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
