"""The exported bundle: opens, embeds as torch does, says what it is, and refuses damage."""

# ruff: noqa: E402 - what follows the skips needs the packages

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

for _package in ("torch", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
    pytest.importorskip(_package)

import limen
from limen.archive import read_archive, write_archive
from limen.bundle import parse_bundle
from limen.conformance import replay
from limen.errors import BundleError
from limen.export.card import _first_weights
from limen.train.pictures import Pictures
from limen.train.validation import embed_pictures

GRAPHS = {
    ("onnx", "float32"),
    ("onnx", "float16"),
    ("onnx", "int8"),
    ("tflite", "float32"),
    ("tflite", "float16"),
    ("tflite", "int8"),
}


@pytest.fixture(scope="module")
def trained(exported: Any, held_out: Pictures, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    return embed_pictures(exported.checkpoint.network(), held_out, crops.shape[1])


def test_full_bundle_holds_all_eight_graphs(exported: Any) -> None:
    graphs = exported.manifest.graphs
    assert {(g.runtime, g.precision) for g in graphs} == GRAPHS
    assert {(g.path, g.batch, g.io) for g in graphs} == {
        ("embedder.float32.onnx", None, "float32"),
        ("embedder.float32.batch1.onnx", 1, "float32"),
        ("embedder.float16.onnx", None, "float32"),
        ("embedder.int8.onnx", None, "float32"),
        ("embedder.float32.tflite", 1, "float32"),
        ("embedder.float16.tflite", 1, "float32"),
        ("embedder.int8.tflite", 1, "float32"),
        ("embedder.int8.int8-io.tflite", 1, "int8"),
    }


def test_every_graph_embeds_and_agrees_with_torch(
    exported: Any, trained: NDArray[np.float32], crops: NDArray[np.uint8]
) -> None:
    bundle = limen.open_bundle(exported.path)
    for graph in bundle.manifest.graphs:
        cosine = (bundle.embedder_of(graph).embed(crops) * trained).sum(1)
        assert cosine.mean() > (0.9 if graph.precision == "int8" else 0.999), graph.path


def test_exporting_board_conforms_and_a_graph_that_drifted_does_not(exported: Any) -> None:
    bundle = limen.open_bundle(exported.path)
    results = replay(bundle)
    assert [r.path for r in results] == [g.path for g in bundle.manifest.graphs]
    assert {r.outcome for r in results} == {"conforms"}
    assert all(r.changed == 0 for r in results)
    assert all(r.decisions >= 90 for r in results if r.precision != "int8")
    other = bundle.manifest.graphs[3]
    swapped = replay(bundle, make=lambda _graph, threads: bundle.embedder_of(other))
    assert other.precision == "int8"
    assert {r.outcome for r in swapped if r.precision != "int8"} == {"differs"}
    assert all(" off, " in r.reason for r in swapped if r.outcome == "differs")


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_float32_embeds_as_torch_does(
    exported: Any, trained: NDArray[np.float32], crops: NDArray[np.uint8], runtime: str
) -> None:
    embedder = limen.open_bundle(exported.path).embedder(runtime, "float32")
    np.testing.assert_allclose(embedder.embed(crops), trained, atol=1e-4)


@pytest.mark.parametrize(
    ("runtime", "precision", "least"),
    [("tflite", "float16", 0.999), ("tflite", "int8", 0.9), ("onnx", "int8", 0.9)],
)
def test_smaller_graphs_agree_with_torch(
    exported: Any,
    trained: NDArray[np.float32],
    crops: NDArray[np.uint8],
    runtime: str,
    precision: str,
    least: float,
) -> None:
    embeddings = limen.open_bundle(exported.path).embedder(runtime, precision).embed(crops)
    assert float((embeddings * trained).sum(1).mean()) >= least


def test_onnx_takes_any_batch(exported: Any, crops: NDArray[np.uint8]) -> None:
    embedder = limen.open_bundle(exported.path).embedder("onnx", "float32")
    np.testing.assert_allclose(embedder.embed(crops[:1]), embedder.embed(crops[:5])[:1], atol=1e-5)


def test_float32_graphs_share_a_model_id_and_no_other_does(exported: Any) -> None:
    bundle = limen.open_bundle(exported.path)
    ids = {pair: bundle.embedder(*pair).model_id for pair in sorted(GRAPHS)}
    assert ids["onnx", "float32"] == ids["tflite", "float32"]
    assert len(set(ids.values())) == len(GRAPHS) - 1


def test_manifest_carries_the_evidence(exported: Any) -> None:
    manifest = exported.manifest
    gate = manifest.gate
    assert {row.path for row in gate.graphs} == {g.path for g in manifest.graphs}
    assert (gate.part, gate.crops, gate.subjects) == ("report", 16, 4)
    assert (gate.mated_comparisons, gate.non_mated_comparisons) == (24, 96)
    for row in gate.graphs:
        assert [change.fmr for change in row.fnmr] == [1e-2, 1e-3, 1e-4]
        assert not any(change.reliable for change in row.fnmr)
        assert row.latency[0].threads == 1
        assert row.non_mated_drift.worst >= abs(row.non_mated_drift.mean)
    assert manifest.provenance["training"] == exported.checkpoint.provenance
    assert manifest.provenance["export"]["recipe"]["seed"] == 0
    assert manifest.provenance["export"]["packages"]["onnxslim"]
    assert manifest.sequence == int(exported.made_at.timestamp())
    assert manifest.created_at == exported.made_at.isoformat()
    assert manifest.cohort is None
    assert manifest.threshold_floor is None
    assert exported.told


def test_card_says_what_it_is_made_of_and_not_for(exported: Any) -> None:
    card = exported.manifest.card
    for said in (
        "24 of 6 people",
        "drawn by a test",
        "sface",
        "slimmed from `large.onnx`",
        "no liveness detection",
        "interim finder",
        "LicenseRef-non-commercial-research",
        "mated and",
        "too few people or pairs for a claim",
        "ΔFNMR at FMR 1e-2",
    ):
        assert said in card


def test_nothing_of_the_exporting_machine_is_in_the_bundle(exported: Any) -> None:
    content = exported.path.read_bytes()
    assert b"site-packages" not in content
    assert str(Path.home()).encode() + b"/" not in content
    assert str(exported.folder).encode() not in content


def test_bundle_cut_short_is_refused(exported: Any, tmp_path: Path) -> None:
    content = exported.path.read_bytes()
    short = tmp_path / "short.limen"
    short.write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match="not a whole bundle"):
        limen.open_bundle(short)


def test_edited_graph_is_refused_by_name(exported: Any) -> None:
    parts = _parts(exported.path)
    graph = bytearray(parts["embedder.int8.tflite"])
    graph[len(graph) // 2] ^= 1
    parts["embedder.int8.tflite"] = bytes(graph)
    with pytest.raises(BundleError, match=r"embedder\.int8\.tflite.*changed after sealing"):
        parse_bundle(_zipped(parts), "edited")


def test_newer_schema_is_refused_with_the_remedy(exported: Any) -> None:
    parts = _parts(exported.path)
    manifest = json.loads(parts["manifest.json"])
    parts["manifest.json"] = json.dumps({**manifest, "schema_version": 3}).encode()
    with pytest.raises(BundleError, match=r"newer than 2.*update limen"):
        parse_bundle(_zipped(parts), "newer")


def _parts(path: Path) -> dict[str, bytes]:
    return {name: bytes(part) for name, part in read_archive(path.read_bytes(), "x").items()}


def _zipped(parts: dict[str, bytes]) -> bytes:
    return write_archive(list(parts.items()))


def test_card_follows_the_weights_back_to_their_beginning() -> None:
    first = {"slimmed_from": {"file": "sface.onnx", "sha256": "ab" * 32}}
    second = {"file": "best.pt", "sha256": "cd" * 32, "step": 2000, "provenance": first}
    text = "\n".join(_first_weights({"initialised_from": second}))
    assert "step 2,000 of an earlier run, `best.pt`" in text
    assert "slimmed from `sface.onnx` (SHA-256 abab" in text
    assert "random" not in text
    assert "Not recorded" in "\n".join(_first_weights({"initialised_from": {"file": "best.pt"}}))
    assert _first_weights({}) == ["- First weights: random."]
