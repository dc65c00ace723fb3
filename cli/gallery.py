"""The verbs over the gallery's file: show, check, backup, restore, rekey."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limen.cli.options import (
    GalleryOption,
    JsonOption,
    authorise,
    gallery_key,
    gallery_path,
    open_gallery,
    read_passphrase,
)
from limen.cli.output import note, print_table, say, say_json

gallery_app = typer.Typer(help="The gallery's file: check, back up, change its key.")


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.add_typer(gallery_app, name="gallery")


@gallery_app.command()
def show(gallery: GalleryOption = None, json: JsonOption = False) -> None:
    """Say what the gallery is: its model, how many are in it, its fingerprint, its backups."""
    with open_gallery(gallery) as opened:
        records = opened.subjects()
        number, link = opened.audit.head()
        told = {
            "gallery": str(gallery_path(gallery)),
            "fingerprint": opened.fingerprint,
            "model_id": opened.model_id,
            "subjects": len(records),
            "references": sum(record.references for record in records),
            "audit_head": f"{number}:{link}",
            "backups": [f"{b.path} ({b.made_at})" for b in opened.backups()],
        }
    if json:
        say_json(told)
        return
    rows = [[key, "\n".join(v) if isinstance(v, list) else str(v)] for key, v in told.items()]
    print_table("gallery", ["", "value"], rows)


@gallery_app.command()
def check(gallery: GalleryOption = None, json: JsonOption = False) -> None:
    """Read and authenticate every page, record and audit entry."""
    with open_gallery(gallery) as opened:
        found = opened.check()
    told = {
        "subjects": found.subjects,
        "references": found.references,
        "operating_points": found.operating_points,
        "audit_entries": found.audit_entries,
    }
    if json:
        say_json(told)
    else:
        say("in order: " + ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in told.items()))


@gallery_app.command()
def backup(
    out: Annotated[Path, typer.Argument(help="A new file.")], gallery: GalleryOption = None
) -> None:
    """Copy the gallery while the door runs. The copy is sealed, and opens with the same key."""
    with open_gallery(gallery, need="export") as opened:
        opened.back_up(out)
    say(f"{out} written")
    note("it opens with the gallery's key only: keep a copy of that apart from it")


@gallery_app.command()
def restore(
    backup: Annotated[Path, typer.Argument(help="A backup's file.")], gallery: GalleryOption = None
) -> None:
    """Make a gallery of a backup, where there is none."""
    from limen.device.gallery.backup import restore as restore_backup

    target = gallery_path(gallery)
    restore_backup(backup, target, gallery_key())
    say(f"{target} restored")
    note("whoever was removed after the backup was made is in it again: remove them again")


@gallery_app.command()
def rekey(
    to_key: Annotated[
        Path | None, typer.Option(help="Make or use this key file from now on.")
    ] = None,
    to_passphrase: Annotated[bool, typer.Option(help="Ask for a passphrase instead.")] = False,
    to_passphrase_file: Annotated[
        Path | None, typer.Option(help="Use the passphrase in this file's first line instead.")
    ] = None,
    gallery: GalleryOption = None,
) -> None:
    """Seal everything again under a new key: from time to time, or when the old one was seen."""
    from limen.device.gallery.keys import KeyFile, KeySource, Passphrase, checked_passphrase
    from limen.errors import ConfigError

    if sum([to_key is not None, to_passphrase, to_passphrase_file is not None]) > 1:
        raise ConfigError("name one of --to-key, --to-passphrase and --to-passphrase-file")
    source: KeySource | None = None
    if to_key is not None:
        source = KeyFile(to_key)
    elif to_passphrase_file is not None:
        source = Passphrase(checked_passphrase(read_passphrase(to_passphrase_file)))
    elif to_passphrase:
        text = typer.prompt("A passphrase", hide_input=True, confirmation_prompt=True, err=True)
        source = Passphrase(checked_passphrase(text))
    with open_gallery(gallery) as opened:
        authorise(opened, None)
        purged = opened.rekey(source)
    say("sealed under a new key")
    if not purged:
        note("another process reads the gallery: the old records go when it is opened next")
    if source is not None:
        note("the old key still opens older backups: keep it with them, or remove both")
