"""Conformance: does this very board do with a bundle what the exporting machine did?

The golden inputs are aligned, embedded by every graph whose runtime is installed, and compared
with what the bundle expects: embeddings within a tolerance, decisions exactly. The finder's graphs
look at a scene of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limen.bundle import Bundle
from limen.embedder import Embedder
from limen.errors import BundleError, LimenError, RuntimeUnavailableError
from limen.golden import GoldenInputs, decode_golden, pair_scores
from limen.golden_finder import compare_answers, scene_answers
from limen.manifest import (
    FinderExpectation,
    Golden,
    GoldenExpectation,
    Graph,
    GraphFinder,
    RuntimeGraph,
)
from limen.runtimes import open_session

Outcome = Literal["conforms", "differs", "not run"]


@dataclass(frozen=True, slots=True)
class GraphConformance:
    """One graph on this board.

    distance: the largest Euclidean distance of an embedding from the expected one, for a finder's
    graph the mean absolute difference of its answers; changed: how many of `decisions` pairs, or
    cells, were decided otherwise. Both are None where the graph was not run;
    `reason` then says why, and where it differs, how.
    """

    path: str
    runtime: str
    precision: str
    outcome: Outcome
    distance: float | None
    max_distance: float
    decisions: int
    changed: int | None
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def replay(
    bundle: Bundle, threads: int = 1, make: Callable[[Graph, int], Embedder] | None = None
) -> list[GraphConformance]:
    """Replay the bundle's golden inputs through every graph that this board can run.

    make: opens a graph, with so many threads; the bundle's own way where none is given.
    BundleError where the bundle carries no golden inputs.
    """
    golden = bundle.manifest.golden
    if golden is None:
        raise BundleError(
            f"'{bundle.manifest.name}' carries no golden inputs, so nothing can be replayed; "
            "export or pack it again with this version of limen"
        )
    inputs, expected = decode_golden(
        bundle.part(golden.path), golden, bundle.manifest.embedding_size
    )
    crops = inputs.crops(bundle.manifest.input.px)
    graphs = {graph.path: graph for graph in bundle.manifest.graphs}
    detector = bundle.detector() if make is None else None
    results = []
    for row in golden.expected:
        graph = graphs.get(row.path)
        if graph is None:
            raise BundleError(f"the golden inputs name '{row.path}', which is no embedder's graph")
        try:
            embedder = (
                bundle.embedder_of(graph, detector, threads)
                if make is None
                else make(graph, threads)
            )
            results.append(_compared(graph, row, embedder.embed(crops), expected[row.path]))
        except RuntimeUnavailableError as error:
            results.append(_not_run(graph, row, "not run", str(error)))
        except LimenError as error:  # the runtime refuses the graph, or it gives no embeddings
            results.append(_not_run(graph, row, "differs", str(error)))
    return results + _finder_replayed(bundle, golden, inputs, threads)


def _finder_replayed(
    bundle: Bundle, golden: Golden, inputs: GoldenInputs, threads: int
) -> list[GraphConformance]:
    """The finder's graphs on the golden scene; none in bundles that were sealed without it."""
    finder = bundle.manifest.finder
    if not golden.finder:
        return []
    if not isinstance(finder, GraphFinder):
        raise BundleError("the golden inputs name a finder's graphs, and the bundle has no such")
    graphs = {graph.path: graph for graph in finder.graphs}
    results = []
    for row in golden.finder:
        graph = graphs.get(row.path)
        if graph is None:
            raise BundleError(f"the golden inputs name '{row.path}', which is no finder's graph")
        try:
            session = open_session(graph.runtime, bytes(bundle.part(graph.path)), threads)
            answers = scene_answers(session, graph.layout, finder, inputs.pictures)
            difference, decisions, changed = compare_answers(
                bundle.part(golden.path), row, answers, finder.min_confidence
            )
        except RuntimeUnavailableError as error:
            results.append(_not_run(graph, row, "not run", str(error)))
            continue
        except LimenError as error:
            results.append(_not_run(graph, row, "differs", str(error)))
            continue
        reasons = []
        if not difference <= row.max_difference:
            reasons.append(f"answers are {difference:.1e} off, {row.max_difference:.0e} is allowed")
        if changed:
            reasons.append(f"{changed} of {decisions} cells are decided otherwise, none may be")
        results.append(
            GraphConformance(
                path=graph.path,
                runtime=graph.runtime,
                precision=graph.precision,
                outcome="differs" if reasons else "conforms",
                distance=difference,
                max_distance=row.max_difference,
                decisions=decisions,
                changed=changed,
                reason="; ".join(reasons),
            )
        )
    return results


def _compared(
    graph: Graph,
    row: GoldenExpectation,
    found: NDArray[np.float32],
    expected: NDArray[np.float32],
) -> GraphConformance:
    distance = float(np.linalg.norm(found.astype(np.float64) - expected, axis=1).max())
    scores, promised = pair_scores(found), pair_scores(expected)
    decided = np.abs(promised - row.threshold) > row.too_close
    differs = (scores >= row.threshold) != (promised >= row.threshold)
    decisions, changed = int(decided.sum()), int((differs & decided).sum())
    reasons = []
    if not distance <= row.max_distance:
        reasons.append(f"an embedding is {distance:.1e} off, {row.max_distance:.0e} is allowed")
    if changed:
        reasons.append(f"{changed} of {decisions} decisions differ, none may")
    return GraphConformance(
        path=graph.path,
        runtime=graph.runtime,
        precision=graph.precision,
        outcome="differs" if reasons else "conforms",
        distance=distance,
        max_distance=row.max_distance,
        decisions=decisions,
        changed=changed,
        reason="; ".join(reasons),
    )


def _not_run(
    graph: RuntimeGraph,
    row: GoldenExpectation | FinderExpectation,
    outcome: Outcome,
    reason: str,
) -> GraphConformance:
    return GraphConformance(
        path=graph.path,
        runtime=graph.runtime,
        precision=graph.precision,
        outcome=outcome,
        distance=None,
        max_distance=(
            row.max_distance if isinstance(row, GoldenExpectation) else row.max_difference
        ),
        decisions=0,
        changed=None,
        reason=reason,
    )
