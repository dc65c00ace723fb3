"""The verb that seals a foreign network: pack. It needs the extra 'export' for int8 only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from limen.cli.gate_output import print_gate
from limen.cli.options import JsonOption
from limen.cli.output import note, say, say_json


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(pack)


def pack(
    embedder: Annotated[Path, typer.Option(help="An .onnx or .tflite file: crops to embeddings.")],
    out: Annotated[Path, typer.Option(help="The .limen bundle to write.")],
    licence: Annotated[str, typer.Option(help="Of the weights: an SPDX name, or LicenseRef-….")],
    detector: Annotated[
        Path | None, typer.Option(help="A YuNet ONNX file; OpenCV's cascades.")
    ] = None,
    terms: Annotated[str | None, typer.Option(help="The licence's terms in a sentence.")] = None,
    mean: Annotated[
        float, typer.Option(min=0, max=255, help="value = (pixel - mean) / divisor.")
    ] = 127.5,
    divisor: Annotated[float, typer.Option(min=1e-3, max=255, help="See --mean.")] = 127.5,
    colour: Annotated[str, typer.Option(help="RGB or BGR: the order of its channels.")] = "RGB",
    precision: Annotated[
        str, typer.Option(help="Of that file: float32, float16 or int8.")
    ] = "float32",
    data: Annotated[
        Path | None,
        typer.Option(help="A folder as for training: gate, cohort and int8 ranges need it."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Make an int8 graph of it too.")] = False,
    recipe: Annotated[
        str, typer.Option(help="An export recipe, for its limits and calibration.")
    ] = "board",
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A breach of the gate to accept, GRAPH:LIMIT; may be repeated."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name; the file's.")] = None,
    sequence: Annotated[
        int | None, typer.Option(min=0, help="Rises with every sealing of a name; the time.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Seal a network of somebody else's with its preprocessing, finder and licence."""
    from limen.cli.extras import needs_extra
    from limen.errors import ConfigError
    from limen.manifest import Precision

    if colour not in ("RGB", "BGR"):
        raise ConfigError(f"--colour: expected RGB or BGR, found '{colour}'")
    if precision not in ("float32", "float16", "int8"):
        raise ConfigError(f"--precision: expected float32, float16 or int8, found '{precision}'")
    with needs_extra("export", "onnx", "onnxruntime"):
        from limen.export.pack import Preprocessing, pack_bundle
        from limen.export.recipe import load_export_recipe

        manifest = pack_bundle(
            embedder,
            out,
            name=name or out.stem,
            licence=licence,
            terms=terms or f"Under {licence}; see its own text and its maker's words.",
            preprocessing=Preprocessing(mean, divisor, colour),
            precision=cast("Precision", precision),
            detector=detector,
            data_folder=data,
            int8=int8,
            recipe=load_export_recipe(recipe).model_copy(update={"max_megabytes": None}),
            allow=allow or (),
            sequence=sequence,
            report=note,
        )
    if json:
        say_json(manifest.model_dump(mode="json"))
        return
    assert manifest.gate is not None
    print_gate(f"{out}", manifest.gate, {graph.path: graph.bytes for graph in manifest.graphs})
    if manifest.cohort is None:
        say(
            "no cohort: it embeds, compares and identifies, but enrolling and calibrating need "
            "strangers: 'limen prepare PICTURES --cohort 0.5 --out FOLDER', then pack with "
            "--data FOLDER"
        )
    say(f"next: limen evaluate --bundle {out}, and enrol anew: another network, other templates")
