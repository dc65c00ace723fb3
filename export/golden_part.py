"""The golden part of a bundle: what embedder and finder must do, as this machine does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from limen.embedder import RuntimeEmbedder
from limen.export.gate import embedder_of
from limen.export.graphs import BuiltGraph
from limen.golden import draw_golden_inputs, make_golden
from limen.golden_finder import finder_expectation, scene_answers
from limen.manifest import FinderExpectation, Golden, GraphFinder
from limen.runtimes import TFLITE, open_reference_session, open_session
from limen.scaling import SCALING, Scaling


def golden_of(
    graphs: Sequence[BuiltGraph],
    px: int,
    scaling: Scaling = SCALING,
    colour: str = "RGB",
    finder: Sequence[tuple[FinderExpectation, Mapping[str, NDArray[Any]]]] = (),
) -> tuple[bytes, Golden]:
    """The golden inputs' part and entry, for all graphs; finder: what its graphs must answer.

    A TFLite int8 graph is run on the reference kernels too: how far those are from the fast ones
    says how far a board with other kernels may be.
    """
    embedders = {g.path: (g.precision, embedder_of(g, px, scaling, colour)) for g in graphs}
    others = {
        g.path: RuntimeEmbedder(
            open_reference_session(g.content), g.path, px, g.layout, scaling, colour
        )
        for g in graphs
        if g.runtime == TFLITE and g.precision == "int8"
    }
    return make_golden(embedders, px, others, finder)


def golden_answers(
    finder: GraphFinder, parts: Mapping[str, bytes]
) -> list[tuple[FinderExpectation, dict[str, NDArray[Any]]]]:
    """What each of a finder's graphs answers to the golden scene. parts: its graphs' bytes.

    A TFLite int8 graph is run on the reference kernels too, as `golden_of` does.
    """
    pictures = draw_golden_inputs().pictures
    expected = []
    for graph in finder.graphs:
        content = parts[graph.path]
        session = open_session(graph.runtime, content)
        answers = scene_answers(session, graph.layout, finder, pictures)
        otherwise = None
        if graph.runtime == TFLITE and graph.precision == "int8":
            plain = open_reference_session(content)
            otherwise = scene_answers(plain, graph.layout, finder, pictures)
        expected.append(finder_expectation(graph.path, graph.precision, answers, otherwise))
    return expected
