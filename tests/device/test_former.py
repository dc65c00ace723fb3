"""The former model of a gallery, found again in the bundle that the gallery was made with."""

from __future__ import annotations

import numpy as np
import pytest

from limen import bundle as bundles
from limen.anchors import CELL_CHANNELS, cells
from limen.bundle import Bundle, open_bundle
from limen.device.former import former_of
from limen.errors import ModelMismatchError
from limen.finder import FINDER_VERSION
from limen.manifest import GraphFinder
from limen.runtimes import available_runtimes


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle()


def model_of(bundle: Bundle, version: int) -> str:
    """The id of the shipped model behind its default finder, as that version ran it."""
    finder = bundle.manifest.finder
    assert isinstance(finder, GraphFinder)
    graph = next(
        graph
        for graph in finder.graphs
        if graph.precision == finder.default_precision and graph.runtime in available_runtimes()
    )
    return bundle.manifest.model_id(bundle.graph(), finder.detector_id(graph, version))


@pytest.mark.parametrize("version", range(1, FINDER_VERSION + 1))
def test_gallery_of_any_version_of_the_finder_finds_its_model(bundle: Bundle, version: int) -> None:
    wanted = model_of(bundle, version)
    own = bundle.detector()
    found = former_of(bundle, wanted, own)
    assert found.embedder.model_id == wanted
    if version == FINDER_VERSION:
        assert found.detector is None  # the door's own finder is its own
    else:
        assert found.detector is not None
        assert found.detector.detector_id != own.detector_id
    with pytest.raises(ModelMismatchError, match="name the bundle"):
        former_of(bundle, model_of(bundle, FINDER_VERSION + 1), own)


class OneAnswer:
    """A finder's graph that is in doubt of one face, whatever it is shown."""

    def __init__(self, bundle: Bundle) -> None:
        finder = bundle.manifest.finder
        assert isinstance(finder, GraphFinder)
        count = len(cells(finder.height_px, finder.width_px)[0])
        self.answers = np.zeros((1, count, CELL_CHANNELS), np.float32)
        confidence = 1.1 * finder.min_confidence
        self.answers[..., 0] = -20
        self.answers[0, -1, 0] = np.log(confidence / (1 - confidence))
        self.answers[0, -1, 1:5] = 2.0
        self.looks = 0

    def run(self, batch: np.ndarray) -> np.ndarray:
        del batch
        self.looks += 1
        return self.answers


@pytest.mark.parametrize(("version", "looks", "faces"), [(1, 1, 1), (2, 2, 0)])
def test_finder_of_version_1_believes_its_first_look(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, version: int, looks: int, faces: int
) -> None:
    finder = bundle.manifest.finder
    assert isinstance(finder, GraphFinder)
    graph = OneAnswer(bundle)
    monkeypatch.setattr(bundles, "open_session", lambda *_: graph)
    detector = bundle.detector_of(finder.graphs[0], version=version)
    picture = np.zeros((finder.height_px, finder.width_px, 3), np.uint8)
    assert len(detector.detect(picture)) == faces
    assert graph.looks == looks
