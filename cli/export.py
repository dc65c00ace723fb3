"""The workstation's verb export. It needs the extra of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from limen.cli.gate_output import print_gate
from limen.cli.options import JsonOption
from limen.cli.output import note, say, say_json

LayersOption = Annotated[
    bool, typer.Option("--layers", help="Show each int8 layer's error; --keep-float's names.")
]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(export)


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of 'limen train'.")],
    out: Annotated[Path, typer.Option(help="The .limen bundle to write.")],
    data: Annotated[
        Path, typer.Option(help="The training folder: quantisation, gate and cohort need it.")
    ],
    recipe: Annotated[
        str, typer.Option(help="An export recipe: a TOML file, or 'board', 'light' or 'full'.")
    ] = "board",
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A breach of the gate to accept, GRAPH:LIMIT; may be repeated."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name; the file's.")] = None,
    finder: Annotated[
        Path | None,
        typer.Option(help="A finder's checkpoint to seal in; OpenCV's cascades without."),
    ] = None,
    finder_data: Annotated[
        Path | None, typer.Option(help="The finder's labels: quantisation and parity need them.")
    ] = None,
    ranges: Annotated[
        Literal["learnt", "calibrated"] | None,
        typer.Option(
            help="int8 ranges: learnt in training, or calibrated on pictures; learnt if there are any."
        ),
    ] = None,
    groups: Annotated[
        list[Path] | None,
        typer.Option(
            help="Prepared pictures with groups.csv: false-match rates by group, for the card; "
            "may be repeated."
        ),
    ] = None,
    sequence: Annotated[
        int | None, typer.Option(min=0, help="Rises with every export of a name; the time.")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Of the weights.")
    ] = "LicenseRef-non-commercial-research",
    pictures: Annotated[
        str, typer.Option(help="Where the training pictures come from, for the model card.")
    ] = "",
    terms: Annotated[str | None, typer.Option(help="The licence's terms in a sentence.")] = None,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Write OUT.sha256 too, as for the shipped bundle.")
    ] = False,
    layers: LayersOption = False,
    json: JsonOption = False,
) -> None:
    """Export to ONNX and TFLite; compare each graph with torch; seal what passes in a bundle."""
    from limen.cli.extras import needs_extra

    with needs_extra("export", "torch", "onnx", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
        from limen.export.exporter import DEFAULT_TERMS, export_bundle
        from limen.export.recipe import load_export_recipe

    if (finder is None) != (finder_data is None):
        from limen.errors import ConfigError

        raise ConfigError("--finder and --finder-data go together: name both, or neither")
    manifest = export_bundle(
        checkpoint,
        data,
        out,
        name=name or out.stem,
        licence=licence,
        terms=terms or DEFAULT_TERMS,
        pictures=pictures,
        recipe=load_export_recipe(recipe),
        allow=allow or (),
        sequence=sequence,
        show_layers=layers,
        finder=(finder, finder_data) if finder and finder_data else None,
        ranges=ranges,
        groups=groups or (),
        report=note,
    )
    if sha256:
        from limen.sealing import write_digest

        note(f"digest: {write_digest(out)}")
    if json:
        say_json(manifest.model_dump(mode="json"))
        return
    assert manifest.gate is not None
    sizes = {graph.path: graph.bytes for graph in manifest.graphs}
    print_gate(f"{out}, {out.stat().st_size / 1e6:.2f} MB", manifest.gate, sizes)
    say(f"default precision: {manifest.default_precision}")
    for breach in manifest.gate.allowed:
        say(f"allowed: {breach}")
    say(f"next: limen bundle sign {out} --key KEY, and limen bundle conform {out} on the board")
