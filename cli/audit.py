"""The verbs over the audit log: list, verify, prune."""

from __future__ import annotations

from typing import Annotated

import typer

from limen.cli.options import GalleryOption, JsonOption, authorise, open_gallery
from limen.cli.output import EXIT_NO, print_table, say, say_json

audit_app = typer.Typer(help="The audit log: who did what, chained and signed.")


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.add_typer(audit_app, name="audit")


@audit_app.command("list")
def list_entries(
    last: Annotated[int, typer.Option(min=1, help="How many, from the end.")] = 50,
    gallery: GalleryOption = None,
    json: JsonOption = False,
) -> None:
    """List the last entries."""
    with open_gallery(gallery) as opened:
        entries = opened.audit.entries()[-last:]
    if json:
        say_json(
            [
                {
                    "number": e.number,
                    "at": e.at,
                    "actor": e.actor,
                    "kind": e.kind,
                    "detail": e.detail,
                    "personal": e.personal,
                }
                for e in entries
            ]
        )
        return
    print_table(
        f"{len(entries)} entries",
        ["number", "at", "actor", "kind", "detail", "of"],
        [
            [
                str(e.number),
                e.at or "pruned",
                e.actor or "",
                e.kind or "",
                ", ".join(f"{key} {value}" for key, value in (e.detail or {}).items()),
                ", ".join(str(value) for value in (e.personal or {}).values()),
            ]
            for e in entries
        ],
    )


@audit_app.command()
def verify(
    head: Annotated[
        str | None,
        typer.Option(help="A head noted earlier (NUMBER:HASH); the log must go on from it."),
    ] = None,
    gallery: GalleryOption = None,
    json: JsonOption = False,
) -> None:
    """Find a changed, removed or reordered entry. Exit code 1 where there is one."""
    from limen.device.gallery.audit import AuditError
    from limen.errors import ConfigError

    expected = None
    if head is not None:
        number, _, link = head.partition(":")
        if not number.isdigit() or len(link) != 64:
            raise ConfigError("--head: expected NUMBER:HASH, as 'limen audit verify' prints it")
        expected = (int(number), link)
    with open_gallery(gallery) as opened:
        try:
            count = opened.audit.verify(expected)
            number_now, link_now = opened.audit.head()
        except AuditError as error:
            if json:
                say_json({"intact": False, "reason": str(error)})
            else:
                say(f"not intact: {error}")
            raise typer.Exit(EXIT_NO) from error
    if json:
        say_json({"intact": True, "entries": count, "head": f"{number_now}:{link_now}"})
    else:
        say(f"intact: {count} entries; head {number_now}:{link_now}")


@audit_app.command()
def prune(
    keep: Annotated[
        list[str], typer.Option(help="How long a kind is kept: 'opened=90d', repeated.")
    ],
    gallery: GalleryOption = None,
) -> None:
    """Empty the entries whose time is over. The chain still holds."""
    import datetime

    from limen.errors import ConfigError

    longest = {}
    for text in keep:
        kind, _, days = text.partition("=")
        if not kind or not days.endswith("d") or not days[:-1].isdigit():
            raise ConfigError(
                f"--keep: expected KIND=DAYSd, such as opened=90d, found {text[:40]!r}"
            )
        longest[kind] = datetime.timedelta(days=int(days[:-1]))
    with open_gallery(gallery) as opened:
        authorise(opened, None)
        count = opened.audit.prune(longest, datetime.datetime.now(datetime.UTC))
    say(f"{count} entries emptied")
