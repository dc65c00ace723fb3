"""From a checkpoint to one sealed bundle: convert, measure, refuse or seal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limen.errors import RuntimeUnavailableError
from limen.export.errors import ExportError
from limen.export.finder import ExportedFinder, export_finder
from limen.export.gate import (
    breaches_of,
    check_gate,
    embed_with,
    embedder_of,
    marked,
    measure_gate,
)
from limen.export.gate_table import breach_table, layer_table
from limen.export.golden_part import golden_answers, golden_of
from limen.export.graphs import BuiltGraph, graph_entries
from limen.export.learnt_ranges import Ranges, chosen_ranges
from limen.export.onnx_graphs import Prepare, scaled_channels_first
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
)
from limen.scaling import SCALING
from limen.sealing import write_bundle

if TYPE_CHECKING:
    from limen.train.checkpoint import Checkpoint
    from limen.train.pictures import Pictures

DEFAULT_LICENCE = "LicenseRef-non-commercial-research"
DEFAULT_TERMS = (
    "For non-commercial research and education only, as the terms of the training pictures demand. "
    "The weights come as they are, without any warranty; whoever uses them answers for doing so "
    "lawfully, data protection law on biometric data included."
)
LAYER_CROPS = 64

Say = Callable[[str], None]


def export_bundle(
    checkpoint_path: Path,
    data_folder: Path,
    out: Path,
    *,
    name: str,
    licence: str = DEFAULT_LICENCE,
    terms: str = DEFAULT_TERMS,
    pictures: str = "",
    recipe: ExportRecipe | None = None,
    allow: Sequence[str] = (),
    sequence: int | None = None,
    show_layers: bool = False,
    finder: tuple[Path, Path] | None = None,
    ranges: Ranges | None = None,
    groups: Sequence[Path] = (),
    report: Say = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Manifest:
    """Export a checkpoint's averaged network into the bundle `out` and return its manifest.

    data_folder: as for training. int8 ranges come from pictures of 'fit'; the gate's figures from
    'report', or 'choose', or 'fit', the first that the folder has (the card says which); a cohort
    from 'cohort' where there is one. `pictures` says in the card where they come from. recipe: the
    shipped one for a board where none is given; allow: the gate's breaches that are accepted, each
    as 'GRAPH:LIMIT'; sequence: rises with every export of a name, the time in seconds where none
    is given; show_layers: report every int8 layer's error, not only after a breach; finder: a
    finder's checkpoint and its labels, see `limen.export.finder`, without which the bundle's finder
    is OpenCV's cascades; ranges: 'learnt' takes the int8 ranges that the checkpoint was trained
    with, 'calibrated' those of pictures, None the former where there are any; groups: folders of
    pictures labelled by group, see `limen.export.groups`, for the card's false-match rates by age
    and the like. `report` is told each step.
    ExportError with a table where a graph breaks a limit; CheckpointError, PicturesError and
    RuntimeUnavailableError as their causes raise them. Nothing is written then.
    """
    try:
        from limen.export.build import build_graphs
        from limen.export.card import model_card
        from limen.export.evidence import (
            alignment_of,
            cohort_of,
            draw_crops,
            held_out_of,
            pictures_through,
        )
        from limen.export.fairness import measure_fairness
        from limen.export.fold import fold
        from limen.train.checkpoint import load_checkpoint
        from limen.train.pictures import FIT, open_pictures
        from limen.train.validation import embed_pictures
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"an export needs {error.name}, which is not installed: pip install 'limen[export]'"
        ) from error
    recipe = recipe or load_export_recipe()
    made_at = clock()

    checkpoint = load_checkpoint(checkpoint_path)
    network, input_px = checkpoint.network(), checkpoint.recipe.input_px
    folded = fold(network)
    fit = open_pictures(data_folder, FIT)

    def embed(pictures: Pictures) -> NDArray[np.float32]:
        return embed_pictures(network, pictures, input_px)

    learnt = chosen_ranges(network, input_px, ranges)
    crops = draw_crops(
        fit, recipe.calibration.crops, input_px, np.random.default_rng([recipe.seed, 0])
    )
    graphs, floats = build_graphs(folded, crops, input_px, recipe, report, learnt)
    if show_layers:
        report(layer_tables(graphs, floats, crops))

    held_out = held_out_of(embed, data_folder, fit, input_px, recipe.seed)
    report(f"comparing {len(graphs)} graphs with torch on part '{held_out.part}'")
    gate = measure_gate(graphs, held_out, recipe)
    precision = choose_precision(marked(gate, breaches_of(gate, graphs, recipe)), graphs)
    default = default_graph(graphs, precision)
    runs_at_a_door = pictures_through(embedder_of(default, input_px), input_px)
    content, cohort, floor = cohort_of(default, runs_at_a_door, data_folder, recipe.seed, report)
    found = None
    if finder is not None:
        found = export_finder(*finder, seed=recipe.seed, recipe=recipe.finder, report=report)
    answers = golden_answers(found.entry, found.parts) if found else []
    golden_content, golden = golden_of(graphs, input_px, finder=answers)
    parts = {graph.path: graph.content for graph in graphs} | {golden.path: golden_content}
    if cohort is not None:
        parts[cohort.path] = content
    if found is not None:
        parts |= found.parts
    gate = judged(gate, graphs, floats, crops, recipe, allow, parts, show_layers, finder=found)

    weights_licence = Licence(weights=licence, terms=terms)
    fairness = None
    if groups:
        report(f"false-match rates by group, of {', '.join(folder.name for folder in groups)}")
        fairness = measure_fairness(
            groups, held_out, lambda crops: embed_with(default, crops), recipe.seed
        )
    manifest = Manifest(
        name=name,
        created_at=made_at.isoformat(timespec="seconds"),
        sequence=min(int(made_at.timestamp()), LAST_SEQUENCE) if sequence is None else sequence,
        embedding_size=network.embedding_size,
        input=InputSpec(
            px=input_px, scaling=ScalingSpec(mean=SCALING.mean, divisor=SCALING.divisor)
        ),
        alignment=alignment_of(input_px),
        finder=HaarFinder() if found is None else found.entry,
        default_precision=precision,
        graphs=graph_entries(graphs),
        cohort=cohort,
        golden=golden,
        threshold_floor=floor,
        licence=weights_licence,
        card=model_card(
            name=name,
            checkpoint=checkpoint,
            gate=gate,
            sizes={graph.path: len(graph.content) for graph in graphs},
            default_precision=precision,
            cohort=cohort,
            threshold_floor=floor,
            licence=weights_licence,
            pictures=pictures,
            finder=found,
            fairness=fairness,
        ),
        provenance={
            **_provenance(checkpoint, recipe, len(crops), "learnt" if learnt else "calibrated"),
            **({} if found is None else {"finder": found.provenance}),
        },
        gate=gate,
    )
    write_bundle(out, manifest, parts)
    report(f"sealed {out}")
    return manifest


def choose_precision(gate: Gate, graphs: Sequence[BuiltGraph]) -> Precision:
    """int8 where it kept every limit on its rates; else the most exact one of TFLite.

    A graph that was only allowed to pass is never the default, nor is int8 whose error rates the
    pictures could not carry.
    """
    rows = {row.path: row for row in gate.graphs}
    on_board = [g for g in graphs if g.runtime == "tflite"] or list(graphs)
    int8 = [rows[g.path] for g in on_board if g.precision == "int8"]
    proved = [
        not row.breaches and any(c.fmr == 1e-3 and c.reliable for c in row.fnmr) for row in int8
    ]
    if int8 and all(proved):
        return "int8"
    for precision in ("float32", "float16", "int8"):
        if any(g.precision == precision for g in on_board):
            return precision
    raise ExportError("an export needs a graph: name one in the recipe's 'graphs'")


def default_graph(graphs: Sequence[BuiltGraph], precision: Precision) -> BuiltGraph:
    """The graph that a door with both runtimes runs: of `precision`, and TFLite's where it can."""
    fitting = [graph for graph in graphs if graph.precision == precision]
    return next((graph for graph in fitting if graph.runtime == "tflite"), fitting[0])


def judged(
    gate: Gate,
    graphs: list[BuiltGraph],
    floats: Mapping[str, bytes],
    crops: NDArray[np.uint8],
    recipe: ExportRecipe,
    allow: Sequence[str],
    parts: Mapping[str, bytes],
    layers_shown: bool = False,
    prepare: Prepare | None = None,
    finder: ExportedFinder | None = None,
) -> Gate:
    """The gate, judged. The manifest and card are small against the parts whose size is judged."""
    breaches = breaches_of(gate, graphs, recipe, sum(len(part) for part in parts.values()))
    if finder is not None:
        breaches += finder.breaches
    table = breach_table(breaches)
    forbidden = {breach.graph for breach in breaches if breach.key not in allow}
    broken = [g for g in graphs if g.precision == "int8" and g.path in forbidden]
    if broken and not layers_shown:
        table += "\n" + layer_tables(broken, floats, crops, True, prepare)
    finder_paths = [] if finder is None else [graph.path for graph in finder.entry.graphs]
    return check_gate(gate, breaches, allow, table, finder_paths)


def layer_tables(
    graphs: Sequence[BuiltGraph],
    floats: Mapping[str, bytes],
    crops: NDArray[np.uint8],
    only_worst: bool = False,
    prepare: Prepare | None = None,
) -> str:
    """Tables of the int8 graphs' layers, by what each loses."""
    from limen.export.layers import onnx_layers, tflite_layers, worst_layers

    tables = []
    for graph in graphs:
        if graph.precision != "int8":
            continue
        before, some = floats[graph.runtime], crops[:LAYER_CROPS]
        if graph.runtime == "onnx":
            ready = prepare or scaled_channels_first
            layers = onnx_layers(before, graph.content, some, ready)
        else:
            layers = tflite_layers(before, graph.content, some)
        tables.append(layer_table(graph.path, worst_layers(layers) if only_worst else layers))
    return "\n".join(tables)


def _provenance(
    checkpoint: Checkpoint, recipe: ExportRecipe, calibration_crops: int, ranges: Ranges
) -> dict[str, Any]:
    return {
        "training": checkpoint.provenance,
        "recipe": checkpoint.recipe.model_dump(mode="json"),
        "checkpoint": {
            "step": checkpoint.step,
            "channels": checkpoint.channels,
            "validation": checkpoint.validation,
        },
        "export": {
            "recipe": recipe.model_dump(mode="json"),
            "calibration_crops": calibration_crops,
            "int8_ranges": ranges,
            **packages_and_commit(),
        },
    }
