"""Verbs over the gallery: enrol and subjects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limen.cli.options import (
    BundleOption,
    GalleryOption,
    JsonOption,
    PrecisionOption,
    RuntimeOption,
    YuNetOption,
    gallery_path,
    open_recognition,
)
from limen.cli.output import EXIT_FAILED, note, now_utc, print_table, say, say_error, say_json

subjects_app = typer.Typer(help="List or remove enrolled subjects.", no_args_is_help=False)


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(enrol)
    app.add_typer(subjects_app, name="subjects", invoke_without_command=True)


def enrol(
    subject: Annotated[str, typer.Argument(help="The subject's id, as it will be reported.")],
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures of the subject.")] = None,
    source: Annotated[str | None, typer.Option(help="camera, a video, a folder, rtsp://…")] = None,
    shots: Annotated[int, typer.Option(min=1, max=50, help="Shots taken from --source.")] = 5,
    nearest: Annotated[
        bool, typer.Option(help="Where several faces are seen, take the nearest.")
    ] = False,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Teach the door a person, from pictures or a camera. Three or more shots are better than one."""
    from limen.device.enrolment import shots_from_pictures, shots_from_source
    from limen.device.gallery import Gallery
    from limen.device.subjects import checked_subject_id
    from limen.errors import ConfigError

    if bool(pictures) == (source is not None):
        raise ConfigError("name pictures, or one --source, and not both")
    subject = checked_subject_id(subject)
    ready = open_recognition(bundle, runtime, precision, yunet)
    path = gallery_path(gallery)
    # Opened before any picture is read, so that a gallery of another model is told at once.
    with Gallery.open(path, model_id=ready.embedder.model_id, create=True) as opened:
        taken = (
            shots_from_source(source, ready.detector, ready.embedder, shots, one_face=not nearest)
            if source is not None
            else shots_from_pictures(
                pictures or [], ready.detector, ready.embedder, one_face=not nearest
            )
        )
        if taken.accepted:
            opened.enrol(subject, taken.embeddings(), taken.qualities(), now_utc())
        count = next((r.references for r in opened.subjects() if r.subject_id == subject), 0)
    result = {
        "subject": subject,
        "accepted": [
            {"shot": s.name, "quality": round(s.sample.quality, 3)} for s in taken.accepted
        ],
        "refused": [{"shot": r.path, "reason": r.reason} for r in taken.refused],
        "references": count,
        "gallery": str(path),
        "model_id": ready.embedder.model_id,
    }
    if json:
        say_json(result)
    else:
        for refusal in taken.refused:
            say_error(f"{refusal.path}: {refusal.reason}")
        if taken.accepted:
            say(f"{subject}: {len(taken.accepted)} shots enrolled, {count} references in all")
            note("next: limen calibrate")
    if not taken.accepted:
        say_error(f"nothing was enrolled for '{subject}': no shot could be used")
        raise typer.Exit(EXIT_FAILED)


@subjects_app.callback()
def subjects(
    context: typer.Context,
    gallery: GalleryOption = None,
    json: JsonOption = False,
) -> None:
    """List who is enrolled."""
    if context.invoked_subcommand is None:
        _list(gallery, json)


@subjects_app.command("list")
def list_subjects(gallery: GalleryOption = None, json: JsonOption = False) -> None:
    """List who is enrolled."""
    _list(gallery, json)


def _list(gallery: Path | None, json: bool) -> None:
    from limen.device.gallery import Gallery

    path = gallery_path(gallery)
    with Gallery.open(path) as opened:
        records = opened.subjects()
        point, stale = opened.operating_point(), opened.calibration_is_stale()
        model_id = opened.model_id
    if json:
        say_json(
            {
                "gallery": str(path),
                "model_id": model_id,
                "subjects": [
                    {
                        "subject": record.subject_id,
                        "references": record.references,
                        "enrolled_at": record.enrolled_at,
                    }
                    for record in records
                ],
                "operating_point": point.model_dump(mode="json") if point else None,
                "calibration_is_stale": stale,
            }
        )
        return
    print_table(
        f"{len(records)} enrolled in {path}",
        ["subject", "references", "enrolled at"],
        [[r.subject_id, str(r.references), r.enrolled_at] for r in records],
    )
    if records and (point is None or stale):
        note("not calibrated for these references yet: limen calibrate")


@subjects_app.command("remove")
def remove_subject(
    subject: Annotated[str, typer.Argument(help="The subject's id.")],
    gallery: GalleryOption = None,
    json: JsonOption = False,
) -> None:
    """Forget a subject: the templates are deleted and overwritten."""
    from limen.device.gallery import Gallery

    with Gallery.open(gallery_path(gallery)) as opened:
        opened.remove(subject)
    if json:
        say_json({"removed": subject})
    else:
        say(f"{subject} removed")
