"""Golden inputs: drawn, stored, replayed, and told apart from a board that differs."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from limen.bundle import Bundle, parse_bundle
from limen.conformance import replay
from limen.embedder import unit_norm
from limen.errors import BundleError, RuntimeUnavailableError
from limen.golden import (
    FIGURES,
    GOLDEN_FILE,
    TAKES,
    decode_golden,
    draw_golden_inputs,
    expectation,
    make_golden,
    pair_scores,
)


class Shifted:
    """A board whose arithmetic is off by `by` in one direction."""

    model_id = "shifted"

    def __init__(self, embedder, by: float) -> None:
        self._embedder, self._by = embedder, by

    def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = self._embedder.embed(aligned)
        other = np.eye(rows.shape[1], dtype=np.float32)[0]
        return unit_norm(rows + np.float32(self._by) * other)


@pytest.fixture
def golden_bundle(by_hand: SimpleNamespace) -> Bundle:
    """A bundle by hand with golden inputs, both runtimes."""
    pytest.importorskip("onnxruntime")
    graphs = {
        "embedder.float32.onnx": by_hand.onnx_graph(),
        "embedder.float32.tflite": by_hand.tflite_graph(),
    }
    plain = parse_bundle(by_hand.sealed(graphs), "plain")
    content, entry = make_golden(
        {g.path: (g.precision, plain.embedder_of(g)) for g in plain.manifest.graphs}, 16
    )
    manifest = by_hand.manifest_of(graphs, golden=entry.model_dump(mode="json"))
    parts = [
        ("manifest.json", json.dumps(manifest).encode()),
        *graphs.items(),
        (GOLDEN_FILE, content),
    ]
    return parse_bundle(by_hand.archive(parts), "golden")


def test_drawn_inputs_are_always_the_same_and_each_is_another() -> None:
    inputs = draw_golden_inputs()
    again = draw_golden_inputs()
    assert np.array_equal(inputs.pictures, again.pictures)
    assert len(inputs.pictures) == FIGURES * TAKES
    crops = inputs.crops(112)
    assert crops.shape == (15, 112, 112, 3)
    assert len({hashlib.sha256(crop.tobytes()).digest() for crop in crops}) == 15
    assert all(crop.std() > 10 for crop in crops)


def test_board_that_does_the_same_conforms(golden_bundle: Bundle) -> None:
    results = replay(golden_bundle)
    assert [r.outcome for r in results] == ["conforms", "conforms"]
    assert all(r.distance is not None and r.distance < 1e-5 for r in results)
    assert {(r.changed, r.decisions) for r in results} == {(0, 105)}


def test_board_that_is_a_little_off_differs_with_the_figure(golden_bundle: Bundle) -> None:
    def make(graph, threads):
        return Shifted(golden_bundle.embedder_of(graph), 0.01)

    results = replay(golden_bundle, make=make)
    assert {r.outcome for r in results} == {"differs"}
    assert all("an embedding is" in r.reason for r in results)


def test_decision_that_differs_fails_within_the_tolerance(golden_bundle: Bundle) -> None:
    """Were the tolerance wide, one pair on the wrong side of the threshold would still fail."""
    golden = golden_bundle.manifest.golden
    assert golden is not None
    wide = golden.model_copy(
        update={
            "expected": tuple(r.model_copy(update={"max_distance": 2.0}) for r in golden.expected)
        }
    )
    manifest = golden_bundle.manifest.model_copy(update={"golden": wide})
    changed = Bundle(manifest, golden_bundle._parts, "wide")
    results = replay(changed, make=lambda g, t: Shifted(changed.embedder_of(g), 3.0))
    assert {r.outcome for r in results} == {"differs"}
    assert all("decisions differ, none may" in r.reason for r in results)


def test_graph_without_its_runtime_is_not_run_and_says_so(golden_bundle: Bundle) -> None:
    def make(graph, threads):
        if graph.runtime == "onnx":
            raise RuntimeUnavailableError("pip install onnxruntime")
        return golden_bundle.embedder_of(graph)

    first, second = replay(golden_bundle, make=make)
    assert (first.outcome, first.reason) == ("not run", "pip install onnxruntime")
    assert second.outcome == "conforms"


def test_bundle_without_golden_inputs_says_so(by_hand: SimpleNamespace) -> None:
    with pytest.raises(BundleError, match="no golden inputs"):
        replay(parse_bundle(by_hand.sealed(), "plain"))


def test_damaged_or_mismatched_golden_inputs_are_refused(golden_bundle: Bundle) -> None:
    golden = golden_bundle.manifest.golden
    assert golden is not None
    content = bytes(golden_bundle.part(GOLDEN_FILE))
    with pytest.raises(BundleError, match="lack"):
        decode_golden(content, golden, 9)
    with pytest.raises(BundleError, match="shape"):
        decode_golden(content, golden.model_copy(update={"inputs": 14}), 8)
    with pytest.raises(BundleError, match="cannot be read"):
        decode_golden(content[:-30], golden, 8)


def test_threshold_lies_in_a_gap_with_pairs_on_both_sides() -> None:
    rows = unit_norm(np.random.default_rng(0).normal(size=(15, 6)).astype(np.float32))
    found = expectation("a", "float32", rows)
    scores = pair_scores(rows)
    assert 4 <= (scores >= found.threshold).sum() <= len(scores) - 4
    assert np.abs(scores - found.threshold).min() > found.too_close == 1e-4
    with pytest.raises(BundleError, match="tells nobody from anybody"):
        expectation("a", "float32", np.tile(rows[:1], (15, 1)))


def test_kernels_that_round_otherwise_widen_what_is_allowed_by_their_own_measure() -> None:
    rng = np.random.default_rng(0)
    rows = unit_norm(rng.normal(size=(15, 6)).astype(np.float32))
    other = unit_norm((rows + rng.normal(0, 0.02, rows.shape)).astype(np.float32))
    found = expectation("a", "int8", rows, other)
    distance = np.linalg.norm(rows - other, axis=1).max()
    moved = np.abs(pair_scores(rows) - pair_scores(other)).max()
    assert found.max_distance == pytest.approx(2 * distance, abs=1e-6)
    assert found.too_close == pytest.approx(2 * moved, abs=1e-6)
    alone = expectation("a", "int8", rows)
    assert (alone.max_distance, alone.too_close) == (0.05, 1e-4)
