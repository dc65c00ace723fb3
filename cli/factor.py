"""The verbs of `limen factor`: PINs and cards, for doors that ask for a second factor.

They open doors, so they ask for the right to enrol and are in the gallery's audit log. A factor that
was set through another gallery counts for nobody at the door: it is bound to that gallery's subject.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from limen.cli.options import GalleryOption, JsonOption, gallery_path, open_gallery
from limen.cli.output import EXIT_NO, note, print_table, say_json

if TYPE_CHECKING:
    from limen.device.gallery import Gallery
    from limen.device.second_factor import SecondFactors

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The door's TOML file, which names gallery and file."),
]
FileOption = Annotated[
    Path | None, typer.Option("--file", help="The file of second factors itself.")
]

_app = typer.Typer(no_args_is_help=True, help="PINs and cards, for doors that ask for one.")


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.add_typer(_app, name="factor")


@_app.command("set")
def set_factor(
    subject: Annotated[str, typer.Argument(help="Whose.")],
    card: Annotated[bool, typer.Option("--card", help="A card's number, not a PIN.")] = False,
    config: ConfigOption = None,
    file: FileOption = None,
    gallery: GalleryOption = None,
) -> None:
    """Set a subject's PIN, or add a card. It is asked for, or read as one line from a pipe.

    For the owner, or an operator with the right to enrol. On record before it counts.
    """
    from limen.device.gallery.records import subject_uid
    from limen.errors import ConfigError

    what = "card's number" if card else "PIN"
    with _opened(config, file, gallery, need="enrol") as (opened, factors):
        uid = subject_uid(opened.store, subject)
        if sys.stdin.isatty():
            entry = cast(
                str, typer.prompt(f"The {what}", hide_input=True, confirmation_prompt=True)
            )
        else:
            entry = sys.stdin.readline(256).strip()
        kind = "card" if card else "pin"
        opened.audit.note("factor set", {"kind": kind}, subject)
        try:
            factors.add(uid, "card" if card else "pin", entry)
        except ConfigError:
            opened.audit.note("factor not set", {"kind": kind}, subject)
            raise
    note(f"the {what} is kept, hashed")


@_app.command("remove")
def remove_factor(
    subject: Annotated[str | None, typer.Argument(help="Whose.")] = None,
    gone: Annotated[
        bool, typer.Option("--gone", help="Of all who are not enrolled any more; with --config.")
    ] = False,
    config: ConfigOption = None,
    file: FileOption = None,
    gallery: GalleryOption = None,
) -> None:
    """Forget a subject's PIN and cards. Exit 1 where there were none.

    For the owner, or an operator with the right to enrol.
    """
    from limen.device.gallery.records import enrolled_uids, subject_uid
    from limen.errors import ConfigError

    if (subject is None) != gone or (gone and config is None):
        raise ConfigError("name a subject, or the door with --gone --config DOOR.toml")
    with _opened(config, file, gallery, need="enrol") as (opened, factors):
        held = set(factors.subjects())
        if subject is None:
            wanted = held - enrolled_uids(opened.store)
        else:
            wanted = held & {subject_uid(opened.store, subject)}
        if wanted:
            opened.audit.note("factor removed", {"subjects": len(wanted)}, subject)
            factors.remove(*wanted)
    if not wanted:
        note("nobody who is gone has a second factor" if gone else "no second factor to remove")
        raise typer.Exit(EXIT_NO)


@_app.command("list")
def list_factors(
    config: ConfigOption = None,
    file: FileOption = None,
    gallery: GalleryOption = None,
    json: JsonOption = False,
) -> None:
    """Who has which kinds of second factor. Like the list of subjects, it asks for no right."""
    from limen.device.gallery.records import ids_by_uid

    with _opened(config, file, gallery) as (opened, factors):
        names, held = ids_by_uid(opened.store), factors.subjects()
    found = {names[uid]: kinds for uid, kinds in held.items() if uid in names}
    found = dict(sorted(found.items()))
    if len(found) < len(held):
        note(
            f"{len(held) - len(found)} more are of nobody who is enrolled in this gallery and open "
            "nothing: limen factor remove --gone --config DOOR.toml"
        )
    if json:
        say_json(found)
    else:
        rows = [[name, ", ".join(kinds)] for name, kinds in found.items()]
        print_table("Second factors", ["subject", "kinds"], rows)


def forget_factors(config: Path | None, uid: bytes) -> None:
    """Forget the factors of a subject who is gone from the gallery.

    They open nothing in any case; where the door is not named, only their hashes are left, and a
    note says how to have those removed.
    """
    from limen.device.config import load_config
    from limen.device.second_factor import SecondFactors

    if config is None:
        note(
            "a PIN or card of theirs opens nothing any more; its hash goes with: "
            "limen factor remove --gone --config DOOR.toml"
        )
    elif SecondFactors(load_config(config).second_factor.file).remove(uid):
        note("their PIN and cards are forgotten")


@contextlib.contextmanager
def _opened(
    config: Path | None, file: Path | None, gallery: Path | None, need: str | None = None
) -> Iterator[tuple[Gallery, SecondFactors]]:
    from limen.device.config import DoorConfig, load_config
    from limen.device.second_factor import SecondFactors

    settings = load_config(config) if config else DoorConfig()
    where = gallery or (settings.gallery if config else gallery_path(None))
    with open_gallery(where, key=settings.key, need=need) as opened:
        yield opened, SecondFactors(file or settings.second_factor.file)
