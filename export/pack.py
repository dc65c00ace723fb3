"""Bringing a network of somebody else's: sealed with its preprocessing, judged by the same gate.

The float graph is taken as it is, byte for byte, so that its model id names exactly that file. What
is made of it (int8) answers to it in the gate; the cohort is embedded with whichever of them a
door runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.alignment import TEMPLATE_XY
from limen.export.errors import ExportError
from limen.export.evidence import (
    alignment_of,
    cohort_of,
    cohort_section,
    draw_crops,
    held_out_of,
    pictures_through,
)
from limen.export.exporter import choose_precision, default_graph, judged
from limen.export.foreign import (
    FINDER_FILE,
    embedding_size,
    finder_entry,
    foreign_finder,
    foreign_graph,
    golden_crops,
)
from limen.export.gate import (
    HeldOut,
    breaches_of,
    embedder_of,
    marked,
    measure_gate,
)
from limen.export.gate_table import HEADING, gate_caption, gate_rows
from limen.export.golden_part import golden_of
from limen.export.graphs import BuiltGraph, graph_entries
from limen.export.onnx_graphs import int8_onnx
from limen.export.provenance import packages_and_commit
from limen.export.recipe import ExportRecipe, load_export_recipe
from limen.gate_results import Gate
from limen.manifest import (
    LAST_SEQUENCE,
    HaarFinder,
    InputSpec,
    Licence,
    Manifest,
    Precision,
    ScalingSpec,
    YuNetFinder,
)
from limen.scaling import Scaling
from limen.sealing import digest, write_bundle
from limen.train.pictures import FIT, open_pictures

GOLDEN_PART = "golden inputs"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the network was trained with: value = (pixel - mean) / divisor, and the channels' order."""

    mean: float
    divisor: float
    colour: str = "RGB"


def pack_bundle(
    embedder: Path,
    out: Path,
    *,
    name: str,
    licence: str,
    terms: str,
    preprocessing: Preprocessing,
    precision: Precision = "float32",
    detector: Path | None = None,
    data_folder: Path | None = None,
    int8: bool = False,
    recipe: ExportRecipe | None = None,
    allow: Sequence[str] = (),
    sequence: int | None = None,
    report: Say = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Manifest:
    """Seal a foreign embedder, `embedder` (.onnx or .tflite), into the bundle `out`.

    precision: of that file; detector: a YuNet ONNX file, OpenCV's cascades where none is given;
    data_folder: as for training, from which the gate, the cohort and int8 ranges come; without it
    the gate compares on the golden inputs alone, and there is no cohort. int8: make an int8 graph
    of an ONNX file too, with ranges from `data_folder`.
    ExportError or BundleError where a file is not what it should be, or the gate is broken.
    Nothing is written then.
    """
    if not licence.strip() or not terms.strip():
        raise ExportError(
            "a licence of the weights is required: find out under which you may use them"
        )
    recipe = recipe or load_export_recipe()
    made_at = clock()
    scaling = Scaling(preprocessing.mean, preprocessing.divisor)
    graph, px = foreign_graph(embedder, precision)
    run = embedder_of(graph, px, scaling, preprocessing.colour)
    size = embedding_size(run, px, graph.path)
    report(f"{graph.path}: {graph.layout}, {px} px, {size} numbers a face")

    fit = None if data_folder is None else open_pictures(data_folder, FIT)
    graphs, ranges = [graph], golden_crops(px)
    floats: dict[str, bytes] = {graph.runtime: graph.content}

    def prepare(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return run.prepared(crops)

    if int8:
        if fit is None or graph.runtime != "onnx":
            raise ExportError("--int8 takes an ONNX file, and --data for the activations' ranges")
        report("making onnx-int8")
        rng = np.random.default_rng([recipe.seed, 0])
        ranges = draw_crops(fit, recipe.calibration.crops, px, rng)
        content = int8_onnx(
            graph.content, ranges, recipe.calibration, recipe.keep_float.onnx, prepare
        )
        graphs.append(
            BuiltGraph(
                "embedder.int8.onnx", "onnx", "int8", content, graph.batch, "float32", graph.ordered
            )
        )

    if data_folder is not None and fit is not None:
        held_out = held_out_of(pictures_through(run, px), data_folder, fit, px, recipe.seed)
    else:
        crops = golden_crops(px)
        held_out = HeldOut(GOLDEN_PART, crops, run.embed(crops), None)
    report(f"comparing with {graph.path} on '{held_out.part}'")
    gate = measure_gate(
        graphs,
        held_out,
        recipe,
        reference=graph.path,
        scaling=scaling,
        colour=preprocessing.colour,
    )
    default = choose_precision(marked(gate, breaches_of(gate, graphs, recipe)), graphs)
    content, cohort, floor = b"", None, None
    if data_folder is not None:
        chosen = default_graph(graphs, default)
        embed = pictures_through(embedder_of(chosen, px, scaling, preprocessing.colour), px)
        content, cohort, floor = cohort_of(chosen, embed, data_folder, recipe.seed, report)
    golden_content, golden = golden_of(graphs, px, scaling, preprocessing.colour)
    parts = {g.path: g.content for g in graphs} | {golden.path: golden_content}
    if cohort is not None:
        parts[cohort.path] = content
    finder: HaarFinder | YuNetFinder = HaarFinder()
    if detector is not None:
        parts[FINDER_FILE] = foreign_finder(detector)
        finder = YuNetFinder(graphs=(finder_entry(parts[FINDER_FILE]),))
    gate = judged(gate, graphs, floats, ranges, recipe, allow, parts, False, prepare)
    weights_licence = Licence(weights=licence, terms=terms)
    manifest = Manifest(
        name=name,
        created_at=made_at.isoformat(timespec="seconds"),
        sequence=min(int(made_at.timestamp()), LAST_SEQUENCE) if sequence is None else sequence,
        embedding_size=size,
        input=InputSpec(
            px=px,
            colour="BGR" if preprocessing.colour == "BGR" else "RGB",
            scaling=ScalingSpec(mean=scaling.mean, divisor=scaling.divisor),
        ),
        alignment=alignment_of(px),
        finder=finder,
        default_precision=default,
        graphs=graph_entries(graphs),
        cohort=cohort,
        golden=golden,
        threshold_floor=floor,
        licence=weights_licence,
        card=_card(
            name,
            embedder,
            graphs,
            gate,
            weights_licence,
            preprocessing,
            detector,
            cohort_section(cohort, floor),
        ),
        provenance={
            "packed_from": {
                "embedder": {"file": embedder.name, "sha256": digest(graph.content)},
                "detector": None
                if detector is None
                else {"file": detector.name, "sha256": digest(parts[FINDER_FILE])},
            },
            "export": {"recipe": recipe.model_dump(mode="json"), **packages_and_commit()},
        },
        gate=gate,
    )
    write_bundle(out, manifest, parts)
    report(f"sealed {out}")
    return manifest


def _card(
    name: str,
    embedder: Path,
    graphs: Sequence[BuiltGraph],
    gate: Gate,
    licence: Licence,
    preprocessing: Preprocessing,
    detector: Path | None,
    about_cohort: str,
) -> str:
    rows = gate_rows(gate, {g.path: len(g.content) for g in graphs})
    table = "\n".join(f"| {' | '.join(row)} |" for row in (HEADING, ["---"] * len(HEADING), *rows))
    points = ", ".join(f"({x:.2f}, {y:.2f})" for x, y in TEMPLATE_XY)
    return (
        f"# {name}\n\nA network of somebody else's, packed by whoever sealed this bundle: "
        f"`{embedder.name}`. What it was trained on and how good it is, its maker must say; what "
        "was measured here is below.\n\n"
        "## Preprocessing\n\n"
        f"Aligned to {points} px of 112; ({preprocessing.colour} - {preprocessing.mean:g}) / "
        f"{preprocessing.divisor:g}. Faces are found by "
        f"{'OpenCV cascades' if detector is None else f'`{detector.name}` (YuNet)'}.\n\n"
        f"## The graphs\n\nCompared {gate_caption(gate)}.\n\n{table}\n\n{about_cohort}\n\n"
        f"## Licence of the weights: {licence.weights}\n\n{licence.terms}\n"
    )
