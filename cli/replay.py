"""The verbs record and simulate: a door's day written down, and played through a policy again."""

from __future__ import annotations

import json as json_format
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli.options import (
    BundleOption,
    ConfigOption,
    GalleryOption,
    JsonOption,
    PrecisionOption,
    RuntimeOption,
    YuNetOption,
    gallery_path,
    open_gallery,
    open_recognition,
)
from limen.cli.output import EXIT_NO, note, print_table, say_json

if TYPE_CHECKING:
    from limen.device.config import DoorConfig
    from limen.device.gatekeeper import Gatekeeper
    from limen.device.simulation import Happening, LoggedDecision, ReplayClock
    from limen.device.subjects import References


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(record)
    app.command()(simulate)


def record(
    source: Annotated[str, typer.Option(help="camera, camera:N, a video, rtsp://…")],
    out: Annotated[Path, typer.Option(help="A new folder for the session.")],
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = 60.0,
    max_mb: Annotated[float, typer.Option(min=1, help="How large at most.")] = 500.0,
    json: JsonOption = False,
) -> None:
    """Record what a camera sees, for 'limen simulate'. The pictures show people: ask them first."""
    from limen.device.recording import RecordingSource
    from limen.device.sources import open_source

    end_s = time.monotonic() + seconds
    with RecordingSource(open_source(source), out, max_mb=max_mb) as recording:
        for _ in recording:
            if time.monotonic() >= end_s:
                break
        frames = recording.frames_written
    if json:
        say_json({"folder": str(out), "frames": frames})
    else:
        note(f"{frames} frames in {out}; delete the folder when you have no more use for it")


def simulate(
    log: Annotated[
        Path, typer.Option(help="A folder of event logs (*.jsonl), a session, or one log.")
    ],
    config: ConfigOption = None,
    threshold: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Another threshold; for logs, a higher one.")
    ] = None,
    untrusted_clock: Annotated[
        bool, typer.Option(help="As after a power cut: nobody with hours or an expiry enters.")
    ] = False,
    no_factor: Annotated[
        bool, typer.Option(help="Nobody answers when a second factor is asked for.")
    ] = False,
    expect: Annotated[
        Path | None, typer.Option(help="An earlier run's --json; exit 1 where it differs.")
    ] = None,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Play recorded decisions or pictures through a policy, and show what would have opened.

    Logs are those of 'limen run --decisions --scores --subjects'; sessions those of 'limen record',
    and need the gallery. A log is judged by the rights and hours of a --gallery that is named. No
    lock is touched.
    """
    from limen.device.config import DoorConfig, load_config
    from limen.device.simulation import ReplayClock, replay
    from limen.device.sources import SESSION_FILE

    settings = load_config(config) if config else DoorConfig()
    clock = ReplayClock(trusted=not untrusted_clock)
    keeper = _gatekeeper(settings)
    found: list[Happening] = []
    if (log / SESSION_FILE).is_file():
        changes = {"bundle": bundle, "runtime": runtime, "precision": precision, "yunet": yunet}
        chosen = {name: value for name, value in changes.items() if value is not None}
        settings = settings.model_copy(update=chosen)
        path = settings.gallery if config and gallery is None else gallery_path(gallery)
        found += _session(log, settings, path, keeper, clock, threshold, not no_factor)
    else:
        references = None
        if gallery is not None or untrusted_clock:
            path = settings.gallery if config and gallery is None else gallery_path(gallery)
            with open_gallery(path, key=settings.key) as opened:
                references = opened.references()
        for file in _logs(log):
            logged = _logged(file, threshold, references, clock)
            found += replay(logged, keeper, answers=not no_factor)
    counts = {what: sum(h.what == what for h in found) for what in ("opened", "asked", "refused")}
    told = {"happened": [h.to_dict() for h in found], **counts}
    if json:
        say_json(told)
    else:
        rows = [[h.at, h.what, h.subject_id or "–", str(h.votes), h.reason] for h in found]
        print_table("What would have happened", ["at", "what", "who", "votes", "why"], rows)
        note(", ".join(f"{number} {what}" for what, number in counts.items()))
    if expect is not None and not _as_expected(told, expect):
        raise typer.Exit(EXIT_NO)


def _gatekeeper(settings: DoorConfig) -> Gatekeeper:
    from limen.device.admission import Admitter
    from limen.device.gatekeeper import Gatekeeper

    return Gatekeeper(
        Admitter(settings.admission_policy()),
        limits=settings.limits.policy(),
        demand=settings.second_factor.demand,
        check_factor=lambda _subject, _entry: True,  # in a replay, who answers answers rightly
        patience_s=settings.second_factor.patience_s,
    )


def _logs(log: Path) -> list[Path]:
    from limen.errors import ConfigError

    if log.is_file():
        return [log]
    # Rotated files carry a number, the higher the older.
    files = [f for f in log.glob("*.jsonl*") if f.is_file()] if log.is_dir() else []
    if not files:
        raise ConfigError(
            f"{log}: neither a log, nor a folder of logs (*.jsonl) or of a session: check the path"
        )

    def age(file: Path) -> tuple[str, int]:
        stem, _, number = file.name.partition(".jsonl")
        return stem, -int(number[1:]) if number[1:].isdigit() else 0

    return sorted(files, key=age)


def _logged(
    file: Path, threshold: float | None, references: References | None, clock: ReplayClock
) -> Iterator[LoggedDecision]:
    from limen.device.simulation import at_threshold, by_rights_of, read_score_log

    logged = read_score_log(file)
    if threshold is not None:
        logged = at_threshold(logged, threshold)
    return logged if references is None else by_rights_of(logged, references, clock)


def _session(
    folder: Path,
    settings: DoorConfig,
    gallery: Path,
    keeper: Gatekeeper,
    clock: ReplayClock,
    threshold: float | None,
    answers: bool,
) -> Iterator[Happening]:
    from limen.device.assembly import make_door
    from limen.device.loading import load_recogniser
    from limen.device.lock import SimulatedLock
    from limen.device.permission import Permission
    from limen.device.recogniser import Recogniser
    from limen.device.recording import SessionSource
    from limen.device.simulation import happened
    from limen.device.values import Verdict

    ready = open_recognition(
        settings.bundle, settings.runtime, settings.precision, settings.yunet, gallery
    )
    with open_gallery(gallery, model_id=ready.embedder.model_id, key=settings.key) as opened:
        recogniser = load_recogniser(
            opened, ready.embedder.model_id, find_lookalikes=True, wall_clock=clock
        )
        if threshold is not None:
            references = opened.references()
            recogniser = Recogniser(
                references,
                threshold,
                permission=Permission(references, clock),
                find_lookalikes=True,
            )
    now_s = 0.0
    lock = SimulatedLock(lambda: now_s)
    door = make_door(settings, ready.detector, ready.embedder, recogniser, keeper, lock)
    source = SessionSource(folder)
    for frame in source:
        now_s, clock.now = frame.captured_at_s, source.wall()
        admission = door.step(frame).admission
        yield from happened(clock.now, admission)
        if admission.verdict is Verdict.ASK and answers:
            yield from happened(clock.now, door.present("", now_s))


def _as_expected(told: dict[str, Any], expect: Path) -> bool:
    from limen.errors import ConfigError

    try:
        expected = json_format.loads(expect.read_bytes())["happened"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{expect}: expected the output of 'limen simulate --json'") from error
    if expected == told["happened"]:
        return True
    missing = [h for h in expected if h not in told["happened"]]
    added = [h for h in told["happened"] if h not in expected]
    for sign, happenings in (("-", missing), ("+", added)):
        for each in happenings[:20]:
            note(f"{sign} {each.get('at')} {each.get('what')}: {each.get('reason')}")
    note(f"not as expected: {len(missing)} are missing, {len(added)} are new")
    return False
