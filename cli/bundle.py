"""Verbs over bundles: inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limen.cli.options import JsonOption
from limen.cli.output import print_table, say, say_json

bundle_app = typer.Typer(help="Look into a bundle.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.add_typer(bundle_app, name="bundle")


@bundle_app.callback()
def _group() -> None:
    """Look into a bundle."""


@bundle_app.command()
def inspect(
    path: Annotated[Path | None, typer.Argument(help="A .limen file; the shipped one.")] = None,
    card: Annotated[bool, typer.Option("--card", help="Print the model card.")] = False,
    json: JsonOption = False,
) -> None:
    """Check a bundle and show what is in it."""
    from limen.bundle import open_bundle

    manifest = open_bundle(path).manifest
    if json:
        say_json(manifest.model_dump(mode="json"))
        return
    if card:
        say(manifest.card)
        return
    parity = {row.path: row for row in manifest.parity}
    print_table(
        f"{manifest.name}, sealed {manifest.created_at}, weights: {manifest.licence.weights}",
        ["graph", "runtime", "precision", "MB", "mean cosine", "FNMR at FMR 1e-3"],
        [
            [
                graph.path,
                graph.runtime,
                graph.precision
                + (" (default)" if graph.precision == manifest.default_precision else ""),
                f"{graph.bytes / 1e6:.2f}",
                f"{parity[graph.path].mean_cosine:.4f}" if graph.path in parity else "–",
                _rate(parity[graph.path].fnmr_at_fmr_1e_3) if graph.path in parity else "–",
            ]
            for graph in manifest.graphs
        ],
    )
    if manifest.cohort:
        say(f"cohort: {manifest.cohort.embeddings} embeddings of {manifest.cohort.subjects} people")
    say(manifest.licence.terms)


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
