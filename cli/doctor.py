"""The verb doctor: what is wrong with a door, before a visitor finds out."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from limen.cli.options import (
    BundleOption,
    ConfigOption,
    GalleryOption,
    JsonOption,
    SourceOption,
    YuNetOption,
    gallery_path,
    open_gallery,
)
from limen.cli.output import EXIT_NO, print_table, say_json


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(doctor)


def doctor(
    config: ConfigOption = None,
    source: SourceOption = None,
    camera: Annotated[
        bool, typer.Option(help="Open the camera; a door that runs holds it.")
    ] = True,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Examine camera, model, signature, gallery, key, clock, lock, power, disk and permissions.

    One line each, with its remedy. Drives no pin. Exit 1 where something keeps the door from working.
    """
    from limen.device.config import DoorConfig, load_config
    from limen.device.doctor import examine
    from limen.device.findings import Grade

    settings = load_config(config) if config else DoorConfig()
    changes = {"source": source, "bundle": bundle, "yunet": yunet}
    given = {name: value for name, value in changes.items() if value is not None}
    if gallery is not None or config is None:
        given["gallery"] = gallery_path(gallery)
    settings = settings.model_copy(update=given)
    opening = partial(open_gallery, settings.gallery, key=settings.key)
    findings = list(examine(settings, opening, camera=camera))
    failed = any(finding.grade is Grade.FAIL for finding in findings)
    if json:
        say_json({"ok": not failed, "findings": [finding.to_dict() for finding in findings]})
    else:
        rows = [[f.name, f.grade.value, f.text, f.remedy] for f in findings]
        print_table("The door", ["what", "grade", "found", "remedy"], rows)
    if failed:
        raise typer.Exit(EXIT_NO)
