"""Graphs that were built and are not yet in a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from limen.manifest import Graph, Precision, Runtime
from limen.runtimes import ONNX
from limen.sealing import digest


@dataclass(frozen=True, slots=True)
class BuiltGraph:
    """A converted graph. `content` is what a runtime loads.

    batch: the fixed number of crops of a call, None for any; io: the type of its own ends;
    ordered: the layout where it is not the runtime's usual one.
    """

    path: str
    runtime: Runtime
    precision: Precision
    content: bytes
    batch: int | None = None
    io: Literal["float32", "int8"] = "float32"
    ordered: Literal["NCHW", "NHWC"] | None = None

    @property
    def layout(self) -> Literal["NCHW", "NHWC"]:
        """'NCHW' for ONNX and 'NHWC' for TFLite, unless the graph says otherwise."""
        return self.ordered or ("NCHW" if self.runtime == ONNX else "NHWC")


def graph_entries(graphs: Sequence[BuiltGraph]) -> tuple[Graph, ...]:
    """The manifest's entries for graphs that passed the gate.

    Float32 graphs are each other's equivalents, since the gate held all of them to the trained
    network; a graph at another precision has none but itself.
    """
    return tuple(
        Graph(
            path=graph.path,
            sha256=digest(graph.content),
            bytes=len(graph.content),
            role="embedder",
            runtime=graph.runtime,
            precision=graph.precision,
            layout=graph.layout,
            batch=graph.batch,
            io=graph.io,
            equivalents=equivalents_of(graph, graphs),
        )
        for graph in graphs
    )


def equivalents_of(graph: BuiltGraph, graphs: Sequence[BuiltGraph]) -> tuple[str, ...]:
    """The digests of the graphs whose answers are `graph`'s, its own included."""
    if graph.precision != "float32":
        return (digest(graph.content),)
    return tuple(sorted({digest(g.content) for g in graphs if g.precision == "float32"}))
