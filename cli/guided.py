"""The guided minute: people of the gallery walk up to the camera, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from limen.cli.output import note, now_utc

if TYPE_CHECKING:
    from limen.cli.options import Recognition
    from limen.device.gallery import Gallery
    from limen.device.guided import SeenVisit, VisitPolicy
    from limen.device.kept_visits import KeptVisit


def take_visits(
    gallery: Gallery,
    ready: Recognition,
    policy: VisitPolicy,
    *,
    source: str,
    recorded: Path | None,
) -> None:
    """Watch visits and keep their scores: live ones, prompted for, or recorded ones.

    recorded: a folder with a folder for each subject, which holds a session of 'limen record', or
    several. SourceError where it holds none; SubjectNotFoundError for a folder of somebody else.
    """
    from limen.device.kept_visits import scored
    from limen.errors import CalibrationError

    references = gallery.references()
    if not references.subject_ids:
        raise CalibrationError("nobody is enrolled: run 'limen enrol SUBJECT PICTURE…' first")
    number = {name: index for index, name in enumerate(references.subject_ids)}
    cohort = ready.bundle.cohort()
    seen = (
        _recorded(recorded, set(number), ready, policy)
        if recorded is not None
        else _prompted(list(references.subject_ids), ready, policy, source)
    )
    kept: dict[str, list[KeptVisit]] = {}
    for name, visit in seen:
        found = scored(
            visit,
            number[name],
            references,
            cohort,
            probe_frames=policy.probe_frames,
            at=now_utc(),
        )
        kept.setdefault(name, []).append(found)
        _tell(name, found, visit.crowded)
    if not kept:
        raise CalibrationError("nobody walked up to the camera: nothing was kept or changed")
    gallery.keep_visits(kept)


def _prompted(
    names: list[str], ready: Recognition, policy: VisitPolicy, source: str
) -> Iterator[tuple[str, SeenVisit]]:
    from limen.device.guided import watch_visit
    from limen.device.sources import open_source

    note("one after the other: walk up to the camera as on any other day; nothing opens")
    for name in names:
        answer = typer.prompt(
            f"{name}: Enter when on the way, s to skip, q to end",
            default="",
            show_default=False,
            err=True,
        )
        if answer.strip().lower() == "q":
            return
        if answer.strip().lower() == "s":
            continue
        with open_source(source) as frames:
            visit = watch_visit(frames, ready.detector, ready.embedder, policy)
        if visit is None:
            note(f"{name}: no face came into view: left out")
            continue
        yield name, visit


def _recorded(
    folder: Path, names: set[str], ready: Recognition, policy: VisitPolicy
) -> Iterator[tuple[str, SeenVisit]]:
    from limen.device.guided import watch_visit
    from limen.device.recording import SessionSource
    from limen.device.sources import SESSION_FILE
    from limen.device.subjects import checked_subject_id
    from limen.errors import SourceError, SubjectNotFoundError

    sessions = sorted(
        itertools.chain(folder.glob(f"*/{SESSION_FILE}"), folder.glob(f"*/*/{SESSION_FILE}"))
    )
    if not sessions:
        raise SourceError(
            f"{folder}: expected SUBJECT/{SESSION_FILE}, a session of 'limen record' for each "
            "visit: check the path"
        )
    for session in sessions:
        name = checked_subject_id(session.relative_to(folder).parts[0])
        if name not in names:
            raise SubjectNotFoundError(
                f"{session.parent}: nobody is enrolled under that folder's name: name it as "
                "'limen subjects' does"
            )
        visit = watch_visit(SessionSource(session.parent), ready.detector, ready.embedder, policy)
        if visit is None:
            note(f"{name}: no face came into view: left out")
            continue
        yield name, visit


def _tell(name: str, visit: KeptVisit, crowded: int) -> None:
    acquired = [
        (own, other)
        for own, other in zip(visit.own, visit.other, strict=True)
        if own is not None and other is not None
    ]
    words = f"{len(acquired)} of {len(visit.own)} looks acquired, {visit.condition.value}"
    note(f"{name}: {words}, grey level {visit.light:.0f}, face {visit.width_px:.0f} px wide")
    if crowded:
        note(f"{name}: {crowded} looks had more than one face in view: one at a time, please")
    if acquired and sum(other > own for own, other in acquired) > len(acquired) / 2:
        note(f"{name}: more like somebody else enrolled than like {name}: was it the right person?")
