"""The gate: does each graph, on the runtime that will run it, do what its reference does?

Figures first, judgement apart: `measure_gate` runs and compares, `breaches_of` says which limits
are broken and by how much, `check_gate` refuses what nobody allowed by name.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.embedder import RuntimeEmbedder
from limen.errors import BundleError, PictureError
from limen.export.comparison import (
    Pairs,
    Ranked,
    drift,
    fnmr_changes,
    pairs_of,
    rank_1_changes,
)
from limen.export.errors import ExportError
from limen.export.graphs import BuiltGraph
from limen.export.latency import measure_latency
from limen.export.recipe import ExportRecipe, FinderLimits, Limits
from limen.gate_results import Gate, GateGraph, Latency
from limen.runtimes import open_session
from limen.scaling import SCALING, Scaling

EMBED_BATCH = 32
BUNDLE = "bundle"


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that a graph breaks. `key` is what `--allow` must name."""

    graph: str
    limit: str
    found: float
    allowed: float
    note: str = ""

    @property
    def key(self) -> str:
        """'GRAPH:LIMIT'."""
        return f"{self.graph}:{self.limit}"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the gate compares on. crops: (n, px, px, 3) uint8 RGB; reference: (n, D), unit norm,
    the reference's embeddings of them; identity: (n,), whose face each is, or None.
    """

    part: str
    crops: NDArray[np.uint8]
    reference: NDArray[np.float32]
    identity: NDArray[np.int64] | None


def embedder_of(
    graph: BuiltGraph, px: int, scaling: Scaling = SCALING, colour: str = "RGB", threads: int = 1
) -> RuntimeEmbedder:
    """The very code that a door runs, over a graph that is not in a bundle yet."""
    return RuntimeEmbedder(
        session=open_session(graph.runtime, graph.content, threads),
        model_id=graph.path,
        input_px=px,
        layout=graph.layout,
        scaling=scaling,
        colour=colour,
    )


def embed_with(
    graph: BuiltGraph,
    crops: NDArray[np.uint8],
    scaling: Scaling = SCALING,
    colour: str = "RGB",
) -> NDArray[np.float32]:
    """Embeddings of (n, px, px, 3) uint8 crops. ExportError where the graph gives none."""
    starts = range(0, len(crops), EMBED_BATCH)
    try:
        embedder = embedder_of(graph, crops.shape[1], scaling, colour)
        return np.concatenate([embedder.embed(crops[s : s + EMBED_BATCH]) for s in starts])
    except (PictureError, BundleError) as error:
        raise ExportError(f"graph '{graph.path}' gives unusable embeddings: {error}") from error


def measure_gate(
    graphs: Sequence[BuiltGraph],
    held_out: HeldOut,
    recipe: ExportRecipe,
    *,
    reference: str = "torch float32",
    scaling: Scaling = SCALING,
    colour: str = "RGB",
) -> Gate:
    """Run every graph on its runtime and compare with the reference.

    RuntimeUnavailableError where a graph's runtime is not installed; ExportError where a graph
    gives no usable embeddings.
    """
    pairs = None if held_out.identity is None else pairs_of(held_out.identity)
    before = None if pairs is None else pairs.scores(held_out.reference)
    ranked = None if pairs is None or before is None else Ranked(pairs, before)
    px = held_out.crops.shape[1]
    speeds = measure_latency(
        graphs,
        lambda graph, threads: embedder_of(graph, px, scaling, colour, threads),
        px,
        [t for t in recipe.threads if t <= (os.cpu_count() or 1)] or [1],
        recipe.latency_runs,
    )
    rows = []
    for graph in graphs:
        embeddings = embed_with(graph, held_out.crops, scaling, colour)
        if embeddings.shape != held_out.reference.shape:
            raise ExportError(
                f"graph '{graph.path}' gives embeddings {embeddings.shape}, the reference "
                f"{held_out.reference.shape}: export the checkpoint again"
            )
        row = _compared(graph.path, embeddings, held_out.reference, speeds[graph.path])
        if pairs is not None and before is not None and ranked is not None:
            row = _verified(row, embeddings, held_out.reference, pairs, before, ranked, recipe)
        rows.append(row)
    return Gate(
        reference=reference,
        part=held_out.part,
        crops=len(held_out.crops),
        subjects=0 if pairs is None else pairs.subjects,
        mated_comparisons=0 if pairs is None else int(pairs.mated.sum()),
        non_mated_comparisons=0 if pairs is None else int((~pairs.mated).sum()),
        confidence=recipe.confidence,
        resamples=recipe.resamples,
        machine=f"{platform.machine()}, {os.cpu_count()} processors",
        graphs=tuple(rows),
    )


def _compared(
    path: str,
    embeddings: NDArray[np.float32],
    reference: NDArray[np.float32],
    latency: tuple[Latency, ...],
) -> GateGraph:
    cosine = np.einsum("nd,nd->n", embeddings, reference, dtype=np.float64)
    return GateGraph(
        path=path,
        mean_cosine=round(float(cosine.mean()), 6),
        min_cosine=round(float(cosine.min()), 6),
        latency=latency,
    )


def _verified(
    row: GateGraph,
    embeddings: NDArray[np.float32],
    reference: NDArray[np.float32],
    pairs: Pairs,
    before: NDArray[np.float32],
    ranked: Ranked,
    recipe: ExportRecipe,
) -> GateGraph:
    after = pairs.scores(embeddings)
    changed, lost = rank_1_changes(embeddings, reference, pairs)
    # Every graph meets the same resamples.
    rng = np.random.default_rng([recipe.seed, 4])
    changes = fnmr_changes(
        pairs, ranked, Ranked(pairs, after), rng, recipe.resamples, recipe.confidence
    )
    return row.model_copy(
        update={
            "fnmr": changes,
            "mated_drift": drift(after[pairs.mated], before[pairs.mated]),
            "non_mated_drift": drift(after[~pairs.mated], before[~pairs.mated]),
            "rank_1_changed": round(changed, 6),
            "rank_1_lost": round(lost, 6),
        }
    )


def breaches_of(
    gate: Gate, graphs: Sequence[BuiltGraph], recipe: ExportRecipe, bundle_bytes: int | None = None
) -> list[Breach]:
    """Every limit of the recipe that is broken. bundle_bytes: the size of the whole bundle."""
    built = {graph.path: graph for graph in graphs}
    found: list[Breach] = []
    for row in gate.graphs:
        limits: Limits = getattr(recipe.limits, built[row.path].precision)
        found += _breaches_of_row(row, limits, _float_peer(built[row.path], gate, graphs))
    largest = recipe.max_megabytes
    if bundle_bytes is not None and largest is not None and bundle_bytes > largest * 1e6:
        found.append(Breach(BUNDLE, "max_megabytes", bundle_bytes / 1e6, largest))
    return found


def _breaches_of_row(row: GateGraph, limits: Limits, peer: GateGraph | None) -> list[Breach]:
    found: list[Breach] = []

    def at_least(limit: str, value: float, least: float | None) -> None:
        if least is not None and not value >= least:  # not a number fails too
            found.append(Breach(row.path, limit, value, least))

    def at_most(limit: str, value: float | None, most: float | None, note: str = "") -> None:
        if most is not None and value is not None and not value <= most:
            found.append(Breach(row.path, limit, value, most, note))

    at_least("min_cosine", row.min_cosine, limits.min_cosine)
    at_least("mean_cosine", row.mean_cosine, limits.mean_cosine)
    most_of = {1e-2: "fnmr_change_at_fmr_1e_2", 1e-3: "fnmr_change_at_fmr_1e_3"}
    for change in row.fnmr:
        limit = most_of.get(change.fmr)
        if limit is not None and change.reliable:
            note = f"estimate {change.change:+.4f}, upper end of its interval"
            at_most(limit, change.high, getattr(limits, limit), note)
    at_most("rank_1_lost", row.rank_1_lost, limits.rank_1_lost)
    drifts = [d.worst for d in (row.mated_drift, row.non_mated_drift) if d is not None]
    at_most("worst_score_drift", max(drifts, default=None), limits.worst_score_drift)
    at_most("latency_ratio", latency_ratio(row, peer), limits.latency_ratio, "one thread")
    return found


def _float_peer(graph: BuiltGraph, gate: Gate, graphs: Sequence[BuiltGraph]) -> GateGraph | None:
    """The measured float graph of the same runtime, the most exact one; None for none but itself."""
    rows = {row.path: row for row in gate.graphs}
    for precision in ("float32", "float16"):
        for other in graphs:
            if other.runtime == graph.runtime and other.precision == precision and other != graph:
                return rows.get(other.path)
    return None


def latency_ratio(row: GateGraph, peer: GateGraph | None) -> float | None:
    """How much longer a graph takes than `peer`, with the fewest threads; None for no peer."""
    if peer is None or not row.latency or not peer.latency or peer.latency[0].median_ms <= 0:
        return None
    return round(row.latency[0].median_ms / peer.latency[0].median_ms, 3)


def check_gate(
    gate: Gate,
    breaches: Sequence[Breach],
    allow: Sequence[str],
    table: str,
    finder_paths: Collection[str] = (),
) -> Gate:
    """Return the gate with its breaches and what was allowed, or raise ExportError with `table`.

    allow: keys of breaches that whoever exports accepts. A key is refused unless it names a graph
    (the embedder's, or one of `finder_paths`) or limit of this export, so that a slip of the pen
    allows nothing.
    """
    limits = {*Limits.model_fields, *FinderLimits.model_fields, "max_megabytes"}
    paths = {row.path for row in gate.graphs} | {BUNDLE, *finder_paths}
    for key in allow:
        path, _, limit = key.partition(":")
        if path not in paths or limit not in limits:
            raise ExportError(
                f"--allow {key}: expected GRAPH:LIMIT, as the table of breaches names them, with a "
                f"graph of {', '.join(sorted(paths))}"
            )
    forbidden = [breach for breach in breaches if breach.key not in allow]
    if forbidden:
        raise ExportError(
            f"{table}\n{len(forbidden)} of the limits above {'is' if len(forbidden) == 1 else 'are'}"
            " broken: nothing was sealed. A float graph that differs was converted wrongly: check "
            "the packages' versions. For int8, look at the layers, keep the worst in float "
            "([keep_float] in the export recipe), try another calibration, or train on with the "
            "quantiser in view. To go on all the same, name each: "
            + " ".join(f"--allow {breach.key}" for breach in forbidden)
        )
    used = tuple(sorted(breach.key for breach in breaches))
    return marked(gate, breaches).model_copy(update={"allowed": used})


def marked(gate: Gate, breaches: Sequence[Breach]) -> Gate:
    """The gate with each graph's own breaches beside its figures."""
    by_path: dict[str, list[str]] = {}
    for breach in breaches:
        by_path.setdefault(breach.graph, []).append(breach.limit)
    rows = tuple(
        row.model_copy(update={"breaches": tuple(by_path.get(row.path, ()))}) for row in gate.graphs
    )
    return gate.model_copy(update={"graphs": rows})
