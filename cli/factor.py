"""The verbs of `limen factor`: PINs and cards, for doors that ask for a second factor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from limen.cli.options import JsonOption
from limen.cli.output import EXIT_NO, note, print_table, say_json

if TYPE_CHECKING:
    from limen.device.second_factor import SecondFactors

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The door's TOML file, which names the file.")
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
) -> None:
    """Set a subject's PIN, or add a card. It is asked for, or read as one line from a pipe."""
    factors = _open(config, file)
    what = "card's number" if card else "PIN"
    if sys.stdin.isatty():
        entry = cast(str, typer.prompt(f"The {what}", hide_input=True, confirmation_prompt=True))
    else:
        entry = sys.stdin.readline(256).strip()
    factors.add(subject, "card" if card else "pin", entry)
    note(f"the {what} is kept, hashed")


@_app.command("remove")
def remove_factor(
    subject: Annotated[str, typer.Argument(help="Whose.")],
    config: ConfigOption = None,
    file: FileOption = None,
) -> None:
    """Forget a subject's PIN and cards. Exit 1 where there were none."""
    if not _open(config, file).remove(subject):
        note("nobody of that id has a second factor")
        raise typer.Exit(EXIT_NO)


@_app.command("list")
def list_factors(
    config: ConfigOption = None, file: FileOption = None, json: JsonOption = False
) -> None:
    """Who has which kinds of second factor."""
    found = _open(config, file).subjects()
    if json:
        say_json(found)
    else:
        rows = [[name, ", ".join(kinds)] for name, kinds in found.items()]
        print_table("Second factors", ["subject", "kinds"], rows)


def _open(config: Path | None, file: Path | None) -> SecondFactors:
    from limen.device.config import DoorConfig, load_config
    from limen.device.second_factor import SecondFactors

    if file is None:
        settings = load_config(config) if config else DoorConfig()
        file = settings.second_factor.file
    return SecondFactors(file)
