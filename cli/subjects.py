"""The verbs over those who are enrolled: list, show, describe, rename, expire, merge, remove, not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli.factor import forget_factors
from limen.cli.options import (
    BundleOption,
    GalleryOption,
    JsonOption,
    PrecisionOption,
    RuntimeOption,
    SubjectArgument,
    YuNetOption,
    gallery_path,
    open_gallery,
    open_recognition,
)
from limen.cli.output import EXIT_FAILED, note, now_utc, print_table, say, say_error, say_json

if TYPE_CHECKING:
    from limen.device.gallery import Gallery
    from limen.device.gallery.erasure import Erasure
    from limen.device.subjects import SubjectRecord

subjects_app = typer.Typer(help="Those who are enrolled.", no_args_is_help=False)
DoorOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The door's TOML file: PIN and cards are forgotten too."),
]
ReceiptOption = Annotated[
    Path | None, typer.Option(help="Write the signed receipt of the erasure to this file.")
]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.add_typer(subjects_app, name="subjects", invoke_without_command=True)


@subjects_app.callback()
def subjects(
    context: typer.Context, gallery: GalleryOption = None, json: JsonOption = False
) -> None:
    """List who is enrolled."""
    if context.invoked_subcommand is None:
        _list(gallery, None, json)


@subjects_app.command("list")
def list_subjects(
    group: Annotated[str | None, typer.Option(help="Only those in this group.")] = None,
    gallery: GalleryOption = None,
    json: JsonOption = False,
) -> None:
    """List who is enrolled."""
    _list(gallery, group, json)


def _list(gallery: Path | None, group: str | None, json: bool) -> None:
    with open_gallery(gallery) as opened:
        records = [r for r in opened.subjects() if group is None or group in r.details.groups]
        point, stale = opened.operating_point(), opened.calibration_is_stale()
        model_id, door = opened.model_id, opened.fingerprint
    path = gallery_path(gallery)
    if json:
        say_json(
            {
                "gallery": str(path),
                "model_id": model_id,
                "fingerprint": door,
                "subjects": [_as_json(record) for record in records],
                "operating_point": point.model_dump(mode="json") if point else None,
                "calibration_is_stale": stale,
            }
        )
        return
    print_table(
        f"{len(records)} enrolled in {path}",
        ["subject", "name", "groups", "references", "enrolled at", "until"],
        [
            [
                r.subject_id,
                r.details.display_name,
                ", ".join(r.details.groups),
                str(r.references),
                r.enrolled_at,
                r.details.expires_at.isoformat(timespec="minutes") if r.details.expires_at else "",
            ]
            for r in records
        ],
    )
    if records and (point is None or stale):
        note("not calibrated for these references yet: limen calibrate")


@subjects_app.command()
def show(subject: SubjectArgument, gallery: GalleryOption = None, json: JsonOption = False) -> None:
    """Everything that is kept of a subject, but the templates."""
    with open_gallery(gallery) as opened:
        record = _as_json(opened.subject(subject))
    if json:
        say_json(record)
        return
    print_table(subject, ["", "value"], [[key, _text(value)] for key, value in record.items()])


@subjects_app.command()
def describe(
    subject: Annotated[list[str], typer.Argument(help="Subject ids.")],
    name: Annotated[str | None, typer.Option(help="Display name.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Groups, all of them; '' for none.")
    ] = None,
    may_enter: Annotated[bool | None, typer.Option(help="Whether the door opens for them.")] = None,
    hours: Annotated[
        list[str] | None,
        typer.Option(help="When: 'mon,tue 08:00-18:00', repeated; '' for at any time."),
    ] = None,
    consent: Annotated[
        str | None, typer.Option(help="What they agreed to, now; '' withdraws it.")
    ] = None,
    notes: Annotated[str | None, typer.Option(help="Anything else.")] = None,
    gallery: GalleryOption = None,
) -> None:
    """Write down subjects' name, groups, rights, hours, consent and notes: of all, or of none."""
    from pydantic import ValidationError

    from limen.device.subjects import SubjectDetails
    from limen.errors import ConfigError
    from limen.settings import explain_validation_error

    changes: dict[str, Any] = {}
    if name is not None:
        changes["display_name"] = name
    if group is not None:
        changes["groups"] = [g for g in group if g]
    if may_enter is not None:
        changes["may_enter"] = may_enter
    if hours is not None:
        changes["schedule"] = [_hours(text) for text in hours if text]
    if notes is not None:
        changes["notes"] = notes
    if not changes and consent is None:
        raise ConfigError("say what to write down: --name, --group, --hours, …")
    with open_gallery(gallery, need="enrol") as opened:
        described = {}
        for each in subject:
            if consent is not None:
                given = {"given_by": each, "given_at": now_utc(), "to": consent}
                changes["consent"] = given if consent else None
            old = opened.subject(each).details.model_dump()
            try:
                described[each] = SubjectDetails.model_validate({**old, **changes})
            except ValidationError as error:
                raise ConfigError(explain_validation_error(error, SubjectDetails)) from error
        for each, details in described.items():
            opened.describe(each, details)
    say(f"{', '.join(described)}: written down")


@subjects_app.command()
def rename(
    subject: SubjectArgument,
    new_id: Annotated[str, typer.Argument(help="The id from now on.")],
    gallery: GalleryOption = None,
) -> None:
    """Give a subject another id."""
    with open_gallery(gallery, need="enrol") as opened:
        opened.rename(subject, new_id)
    say(f"{new_id} is the id now")


@subjects_app.command()
def expire(
    subject: SubjectArgument,
    at: Annotated[str, typer.Argument(help="A date or time (2027-03-31); 'never' takes it back.")],
    gallery: GalleryOption = None,
) -> None:
    """Set when a subject may no longer enter, and is erased by itself."""
    from limen.device.subjects import parsed_time

    moment = None if at == "never" else parsed_time(at)
    with open_gallery(gallery, need="enrol") as opened:
        details = opened.subject(subject).details
        opened.describe(subject, details.model_copy(update={"expires_at": moment}))
    say(f"{subject}: until {moment.isoformat(timespec='minutes') if moment else 'further notice'}")


@subjects_app.command()
def merge(
    kept: Annotated[str, typer.Argument(help="The id that stays.")],
    other: Annotated[str, typer.Argument(help="The id whose references it takes over.")],
    config: DoorOption = None,
    gallery: GalleryOption = None,
) -> None:
    """Make one of two subjects who are the same person. PIN and cards are those of the one kept."""
    from limen.device.gallery.records import subject_uid

    with _opened_to_delete(config, gallery) as opened:
        uid = subject_uid(opened.store, other)
        opened.merge(kept, other)
        count = opened.subject(kept).references
    forget_factors(config, uid)
    say(f"{kept}: {count} references; next: limen calibrate")


@subjects_app.command("not")
def not_this_person(
    subject: SubjectArgument,
    pictures: Annotated[list[Path], typer.Argument(help="Pictures of who was taken for them.")],
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
) -> None:
    """Say that the person in these pictures is not the subject, though the door took them for it."""
    from limen.device.enrolment import shots_from_pictures

    ready = open_recognition(bundle, runtime, precision, yunet, gallery_path(gallery))
    with open_gallery(gallery, model_id=ready.embedder.model_id, need="enrol") as opened:
        taken = shots_from_pictures(pictures, ready.detector, ready.embedder)
        for refusal in taken.refused:
            say_error(f"{refusal.path}: {refusal.reason}")
        if not taken.accepted:
            say_error("nothing was kept: no picture could be used")
            raise typer.Exit(EXIT_FAILED)
        opened.add_negatives(subject, taken.embeddings(), now_utc())
    say(f"{subject}: {len(taken.accepted)} negatives kept")


@subjects_app.command("remove")
def remove_subject(
    subject: SubjectArgument,
    receipt: ReceiptOption = None,
    config: DoorOption = None,
    gallery: GalleryOption = None,
    json: JsonOption = False,
) -> None:
    """Erase a subject: templates, crops, records and their bytes; what the log says of them is noise."""
    from limen.device.gallery.records import subject_uid

    with _opened_to_delete(config, gallery) as opened:
        uid = subject_uid(opened.store, subject)
        erasure = opened.remove(subject)
    _write_receipt(receipt, erasure)
    forget_factors(config, uid)
    if json:
        say_json({"removed": subject, "receipt": erasure.receipt})
        return
    say(f"{subject} removed")
    if not erasure.purged:
        note("another process reads the gallery: the bytes go when it is opened next")
    for backup in erasure.backups:
        note(f"a backup may hold a copy: {backup}")


def _opened_to_delete(config: Path | None, gallery: Path | None) -> Gallery:
    from limen.device.config import load_config

    if config is None:
        return open_gallery(gallery, need="delete")
    door = load_config(config)
    return open_gallery(gallery or door.gallery, key=door.key, need="delete")


def _write_receipt(path: Path | None, erasure: Erasure) -> None:
    import json

    from limen.errors import ConfigError
    from limen.files import write_atomically

    if path is None:
        return
    try:
        with write_atomically(path) as file:
            file.write(json.dumps(erasure.receipt, indent=2).encode() + b"\n")
    except OSError as error:
        raise ConfigError(
            f"{path}: the subject was removed, the receipt cannot be written ({error.strerror})"
        ) from error


def _hours(text: str) -> dict[str, Any]:
    from limen.errors import ConfigError

    try:
        days, times = text.split()
        begins, ends = times.split("-")
    except ValueError as error:
        raise ConfigError(f"hours: expected 'mon,tue 08:00-18:00', found {text[:40]!r}") from error
    return {"days": days.split(","), "begins": begins, "ends": ends}


def _as_json(record: SubjectRecord) -> dict[str, Any]:
    return {
        "subject": record.subject_id,
        "references": record.references,
        "negatives": record.negatives,
        "crops": record.crops,
        "enrolled_at": record.enrolled_at,
        **record.details.model_dump(mode="json"),
    }


def _text(value: Any) -> str:
    if value in (None, "", [], ()):
        return "–"
    if isinstance(value, list):
        return "; ".join(_text(part) for part in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    return str(value)
