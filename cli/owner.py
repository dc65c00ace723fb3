"""The verbs over who may change the gallery: set, list, add, remove, reset."""

from __future__ import annotations

from typing import Annotated

import typer

from limen.cli.options import (
    GalleryOption,
    JsonOption,
    PassphraseFileOption,
    authorise,
    gallery_path,
    new_passphrase,
    open_gallery,
)
from limen.cli.output import note, print_table, say, say_json

owner_app = typer.Typer(help="Who may enrol, delete, export, calibrate and open.")


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.add_typer(owner_app, name="owner")


@owner_app.command("set")
def set_(passphrase_file: PassphraseFileOption = None, gallery: GalleryOption = None) -> None:
    """Make the owner, or change the owner's passphrase. Rights are asked for from then on."""
    from limen.device.gallery import access

    with open_gallery(gallery) as opened:
        if access.has_owner(opened.store):
            authorise(opened, None)
        access.set_owner(opened.store, new_passphrase(passphrase_file))
    say("the gallery has an owner")
    note("a lost passphrase cannot be found again: 'limen owner reset' erases the gallery instead")


@owner_app.command("list")
def list_operators(gallery: GalleryOption = None, json: JsonOption = False) -> None:
    """List the owner and the operators, with their rights."""
    from limen.device.gallery import access

    with open_gallery(gallery) as opened:
        found = access.operators(opened.store)
    if json:
        say_json([{"name": o.name, "rights": list(o.rights)} for o in found])
        return
    if not found:
        note("nobody owns this gallery yet, so no right is asked for: limen owner set")
    print_table("rights", ["name", "rights"], [[o.name, ", ".join(o.rights)] for o in found])


@owner_app.command()
def add(
    name: Annotated[str, typer.Argument(help="The operator's name.")],
    right: Annotated[
        list[str], typer.Option(help="enrol, delete, export, calibrate or open; repeated.")
    ],
    passphrase_file: PassphraseFileOption = None,
    gallery: GalleryOption = None,
) -> None:
    """Give somebody rights."""
    from limen.device.gallery import access
    from limen.errors import ConfigError

    unknown = sorted(set(right) - set(access.Right))
    if unknown:
        raise ConfigError(f"--right: expected {', '.join(access.Right)}, found {unknown[0][:40]!r}")
    with open_gallery(gallery) as opened:
        authorise(opened, None)
        rights = [access.Right(text) for text in right]
        access.add_operator(opened.store, name, new_passphrase(passphrase_file), rights)
    say(f"{name} may {', '.join(sorted(set(right)))}")


@owner_app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The operator's name.")],
    gallery: GalleryOption = None,
) -> None:
    """Take all rights from an operator."""
    from limen.device.gallery import access

    with open_gallery(gallery) as opened:
        authorise(opened, None)
        access.remove_operator(opened.store, name)
    say(f"{name} has no rights any more")


@owner_app.command()
def reset(
    erase_everything: Annotated[
        bool, typer.Option("--erase-everything", help="Yes: everybody enrolled is forgotten.")
    ] = False,
    gallery: GalleryOption = None,
) -> None:
    """The way back from a lost passphrase: erase the gallery and its key, and start anew."""
    from limen.device.gallery.file import destroy
    from limen.device.gallery.keys import default_key
    from limen.errors import ConfigError

    path = gallery_path(gallery)
    if not erase_everything:
        raise ConfigError(f"this erases {path} with everybody in it: add --erase-everything")
    destroy(path, default_key(path).path)
    say(f"{path} is erased; the next 'limen enrol' starts a new gallery")
