"""How the command line speaks: results on stdout, everything else on stderr."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

EXIT_YES, EXIT_NO, EXIT_FAILED = 0, 1, 2


def say_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def say(text: str) -> None:
    """A result, on stdout."""
    typer.echo(text)


def say_error(text: str) -> None:
    """What went wrong, on stderr."""
    typer.echo(f"limen: {text}", err=True)


def note(text: str) -> None:
    """Something worth knowing beside the result, on stderr."""
    typer.echo(text, err=True)


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout; plain text survives in a pipe."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(file=sys.stdout, highlight=False).print(table)


@contextmanager
def progress_bar(label: str, total: int) -> Iterator[Progress]:
    """A progress bar on a terminal, silence in a pipe. Update task 0."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[info]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    ) as progress:
        progress.add_task(label, total=total, info="")
        yield progress


def percent(rate: float | None, digits: int = 2) -> str:
    """A rate for a person to read; a dash where it was not measured."""
    return "–" if rate is None else f"{100 * rate:.{digits}f} %"


def now_utc() -> str:
    """The wall clock for a record, UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
