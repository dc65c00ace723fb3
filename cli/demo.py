"""The verb demo: a simulated door from enrolment to report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limen.cli.options import BundleOption, JsonOption
from limen.cli.output import EXIT_NO, note, say, say_json


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report and pictures.")] = Path(
        "demo-out"
    ),
    source: Annotated[
        str | None,
        typer.Option(help="A folder of people (one folder each), or 'camera'; two shipped people."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the simulated doorway.")] = 1,
    bundle: BundleOption = None,
    json: JsonOption = False,
) -> None:
    """Enrol a person, calibrate, play a day at the door, and write a report."""
    from limen.demo.play import run_demo
    from limen.demo.timeline import show

    result = run_demo(
        out, source, bundle=bundle, seed=seed, report=(lambda _line: None) if json else note
    )
    if json:
        say_json(
            {
                "ok": result.ok,
                "opened": result.opened,
                "missed": result.missed,
                "refused": result.refused,
                "wrong_openings": result.wrong_openings,
                "report": str(result.page),
                "frames": str(result.frames),
            }
        )
    else:
        show(result)
        say(f"report: {result.page}")
    if not result.ok:
        raise typer.Exit(EXIT_NO)
