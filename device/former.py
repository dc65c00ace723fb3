"""The model that a gallery is moving away from, opened from the bundle that it was made with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from limen.bundle import Bundle
from limen.detection import Detector
from limen.embedder import Embedder
from limen.errors import ModelMismatchError
from limen.finder import DOUBTS_BY_VERSION
from limen.manifest import GraphFinder
from limen.runtimes import available_runtimes


@dataclass(frozen=True, slots=True)
class Former:
    """What embeds as the former model does. detector: None where the door's own finder is its own."""

    embedder: Embedder
    detector: Detector | None = None


def former_of(
    bundle: Bundle, model_id: str, own: Detector, yunet: Path | None = None, threads: int = 1
) -> Former:
    """The graph of a bundle whose model id is `model_id`, whichever runtime and precision that is.

    own: the finder that the door runs; yunet: the file that was the finder when the gallery was
    made, where it was none of the bundle's. ModelMismatchError where no graph of the bundle's that
    runs here is that model.
    """
    for detector in _detectors(bundle, yunet):
        for graph in bundle.manifest.graphs:
            if graph.runtime in available_runtimes() and (
                bundle.manifest.model_id(graph, detector.detector_id) == model_id
            ):
                shared = detector.detector_id == own.detector_id
                return Former(
                    bundle.embedder_of(graph, detector, threads), None if shared else detector
                )
    raise ModelMismatchError(
        f"bundle '{bundle.manifest.name}' has no graph of model {model_id[:8]}…, which the gallery "
        "is moving away from: name the bundle that the gallery was made with"
    )


def _detectors(bundle: Bundle, yunet: Path | None) -> Iterator[Detector]:
    """The finders that a gallery of this bundle may have been made with: the default first, then
    other precisions, then each as earlier versions of limen ran it.
    """
    yield bundle.detector(yunet)
    finder = bundle.manifest.finder
    if yunet is None and isinstance(finder, GraphFinder):
        graphs = [graph for graph in finder.graphs if graph.runtime in available_runtimes()]
        for version in sorted(DOUBTS_BY_VERSION, reverse=True):
            for graph in graphs:
                yield bundle.detector_of(graph, version=version)
