"""The verbs that move subjects: export and import, between doors or in bulk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli.options import (
    BundleOption,
    DryRunOption,
    GalleryOption,
    JsonOption,
    NearestOption,
    PassphraseFileOption,
    PrecisionOption,
    Recognition,
    RuntimeOption,
    YuNetOption,
    gallery_path,
    open_gallery,
    open_recognition,
    read_passphrase,
)
from limen.cli.output import EXIT_FAILED, note, now_utc, progress_bar, say, say_error, say_json
from limen.cli.subjects import subjects_app

if TYPE_CHECKING:
    from limen.device.enrolment.bulk import Judged
    from limen.device.gallery import Gallery
    from limen.device.gallery.keys import Passphrase


def register(app: typer.Typer) -> None:
    """Add this module's verbs to `subjects`."""
    subjects_app.command("export")(export)
    subjects_app.command("import")(import_)


def export(
    subjects: Annotated[list[str], typer.Argument(help="The subjects' ids.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    passphrase_file: PassphraseFileOption = None,
    gallery: GalleryOption = None,
) -> None:
    """Write chosen subjects to one signed, encrypted file, for another door of the same model."""
    from limen.device.gallery.transfer import export_subjects

    with open_gallery(gallery, need="export") as opened:
        passphrase = _passphrase(passphrase_file, confirm=True)
        export_subjects(opened.store, subjects, passphrase, out)
        door = opened.fingerprint
    say(f"{len(set(subjects))} subjects in {out}")
    note(f"at the other door: limen subjects import {out} --signer {door}")


def import_(
    source: Annotated[
        Path, typer.Argument(help="A file of 'subjects export', a folder of folders, or a CSV.")
    ],
    signer: Annotated[
        str | None, typer.Option(help="The door that signed the file, as it says itself.")
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    nearest: NearestOption = False,
    dry_run: DryRunOption = False,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Enrol many: from another door's file, or from pictures in bulk. All of them, or nobody."""
    ready = open_recognition(bundle, runtime, precision, yunet, gallery_path(gallery))
    with open_gallery(
        gallery, model_id=ready.embedder.model_id, create=True, need="enrol"
    ) as opened:
        if source.is_dir() or source.suffix.lower() == ".csv":
            _import_pictures(source, opened, ready, nearest, dry_run, json)
        else:
            _import_file(source, opened, signer, passphrase_file, json)


def _import_file(
    source: Path, opened: Gallery, signer: str | None, passphrase_file: Path | None, json: bool
) -> None:
    from limen.device.gallery.transfer import as_json, import_subjects, is_trusted, read_export
    from limen.errors import GalleryError

    sealed = read_export(source)
    if signer is None and not is_trusted(opened.store, sealed):
        raise GalleryError(
            f"{source}: signed by door {sealed.signer}, which this gallery does not know: compare "
            f"with 'limen gallery show' there, then add --signer {sealed.signer}"
        )
    if signer is not None and signer != sealed.signer:
        raise GalleryError(f"{source}: signed by door {sealed.signer}, not by {signer}")
    names = import_subjects(opened.store, sealed, _passphrase(passphrase_file, confirm=False))
    if json:
        say_json({"imported": names, **as_json(sealed)})
    else:
        say(f"{len(names)} subjects imported")
        note("next: limen calibrate")


def _import_pictures(
    source: Path,
    opened: Gallery,
    ready: Recognition,
    nearest: bool,
    dry_run: bool,
    json: bool,
) -> None:
    from limen.device.enrolment import bulk
    from limen.device.gallery.records import Enrolment

    people = bulk.people_from_folders(source) if source.is_dir() else bulk.people_from_csv(source)
    with progress_bar("people", len(people)) as progress:
        judged = bulk.judge_people(
            people,
            ready.detector,
            ready.embedder,
            one_face=not nearest,
            report=lambda done: progress.update(progress.task_ids[0], completed=done),
        )
    judged = bulk.judged_together(judged, opened.references(), ready.bundle.cohort())
    usable = [one for one in judged if one.shots.accepted]
    if usable and not dry_run:
        opened.enrol_all(
            [
                Enrolment(
                    one.person.subject_id,
                    one.shots.embeddings(),
                    one.shots.qualities(),
                    now_utc(),
                    one.person.details,
                )
                for one in usable
            ]
        )
    _report(judged, json, dry_run)
    if not usable:
        raise typer.Exit(EXIT_FAILED)


def _report(judged: list[Judged], json: bool, dry_run: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "subject": one.person.subject_id,
            "enrolled": len(one.shots.accepted),
            "refused": [{"shot": r.path, "reason": r.reason} for r in one.shots.refused],
            "seems_to_be": list(one.seems_to_be),
        }
        for one in judged
    ]
    if json:
        say_json({"subjects": rows, "kept": not dry_run})
        return
    for row in rows:
        for refusal in row["refused"]:
            say_error(f"{refusal['shot']}: {refusal['reason']}")
        if row["seems_to_be"]:
            note(f"beware: '{row['subject']}' seems to be {', '.join(row['seems_to_be'])} too")
        if not row["enrolled"]:
            say_error(f"nothing was enrolled for '{row['subject']}': no shot could be used")
    shots = sum(row["enrolled"] for row in rows)
    people = sum(bool(row["enrolled"]) for row in rows)
    say(f"{people} of {len(rows)} people {'would be ' if dry_run else ''}enrolled, {shots} shots")
    if people and not dry_run:
        note("next: limen calibrate")


def _passphrase(path: Path | None, *, confirm: bool) -> Passphrase:
    from limen.device.gallery.keys import Passphrase

    if path is not None:
        return Passphrase(read_passphrase(path))
    return Passphrase(
        typer.prompt(
            "A passphrase for the file" if confirm else "The file's passphrase",
            hide_input=True,
            confirmation_prompt=confirm,
            err=True,
        )
    )
