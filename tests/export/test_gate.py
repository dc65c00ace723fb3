"""What is refused before anything is sealed, and what is chosen from the figures."""

# ruff: noqa: E402 - what follows the skips needs the packages

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

for _package in ("torch", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
    pytest.importorskip(_package)

import torch

from limen.bundle import CohortEmbeddings
from limen.calibration.rates import false_match_rate
from limen.embedder import unit_norm
from limen.errors import LimenError, RuntimeUnavailableError
from limen.export.errors import ExportError, converting
from limen.export.evidence import threshold_floor
from limen.export.exporter import choose_precision, export_bundle
from limen.export.fold import fold
from limen.export.gate import Breach, HeldOut, breaches_of, check_gate, measure_gate
from limen.export.gate_table import breach_table
from limen.export.graphs import BuiltGraph
from limen.export.onnx_graphs import float32_onnx
from limen.export.recipe import ExportRecipe
from limen.gate_results import FnmrChange, Gate, GateGraph, Latency
from limen.train.checkpoint import Checkpoint, save_checkpoint
from limen.train.networks.mobilenet import MobileNetEmbedder
from limen.train.pictures import Pictures
from limen.train.validation import embed_pictures, to_input

Make = Callable[[int], MobileNetEmbedder]
MakeRecipe = Callable[..., ExportRecipe]


def test_folded_network_gives_the_same(tiny_network: Make, crops: NDArray[np.uint8]) -> None:
    network = tiny_network(3)
    with torch.no_grad():
        torch.testing.assert_close(fold(network)(to_input(crops)), network(to_input(crops)))


def test_folded_network_has_only_plain_layers(tiny_network: Make) -> None:
    leaves = [m for m in fold(tiny_network(3)).modules() if not list(m.children())]
    assert {type(leaf).__name__ for leaf in leaves} == {"Conv2d", "Identity", "ReLU"}


def test_network_that_still_fades_is_refused(fading_network: MobileNetEmbedder) -> None:
    with pytest.raises(ExportError, match=r"faded only to 0\.50: train on"):
        fold(fading_network)


def test_export_of_a_fading_checkpoint_writes_nothing(
    fading_network: MobileNetEmbedder,
    tiny_checkpoint: Callable[[MobileNetEmbedder], Checkpoint],
    picture_folder: Path,
    tmp_path: Path,
) -> None:
    save_checkpoint(tmp_path / "fading.pt", tiny_checkpoint(fading_network))
    with pytest.raises(ExportError, match="plain ReLU"):
        export_bundle(tmp_path / "fading.pt", picture_folder, tmp_path / "x.limen", name="x")
    assert not (tmp_path / "x.limen").exists()


def test_network_in_training_mode_is_refused(tiny_network: Make) -> None:
    with pytest.raises(ExportError, match="evaluation mode"):
        fold(tiny_network(3).train())


def test_graph_of_other_weights_fails_the_gate_by_name(
    tiny_network: Make, held_out: Pictures, crops: NDArray[np.uint8], recipe: MakeRecipe
) -> None:
    trained = embed_pictures(tiny_network(1), held_out, crops.shape[1])
    other = float32_onnx(fold(tiny_network(9)), crops.shape[1])
    graph = BuiltGraph("embedder.float32.onnx", "onnx", "float32", other)
    gate = measure_gate([graph], HeldOut("report", crops, trained, held_out.identity), recipe())
    (breach, *_) = breaches_of(gate, [graph], recipe())
    assert breach.key == "embedder.float32.onnx:min_cosine"
    with pytest.raises(ExportError, match=r"nothing was sealed.*--allow embedder\.float32"):
        check_gate(gate, [breach], [], breach_table([breach]))


@pytest.mark.parametrize(
    ("precision", "mean", "lowest", "broken"),
    [
        ("float32", 1.0, 0.9999, []),
        ("float32", 1.0, 0.9998, ["min_cosine"]),
        ("float16", 1.0, 0.999, []),
        ("float16", 1.0, 0.9989, ["min_cosine"]),
        ("int8", 0.9, 0.2, []),
        ("int8", 0.8999, 0.2, ["mean_cosine"]),
    ],
)
def test_each_precision_has_its_limit(
    precision: str, mean: float, lowest: float, broken: list[str], recipe: MakeRecipe
) -> None:
    gate, graphs = _gate(precision, mean, lowest)
    assert [b.limit for b in breaches_of(gate, graphs, recipe())] == broken


def test_not_a_number_fails_the_gate(recipe: MakeRecipe) -> None:
    gate, graphs = _gate("float32", 1.0, 1.0)
    row = gate.graphs[0].model_copy(update={"min_cosine": float("nan")})
    gate = gate.model_copy(update={"graphs": (row,)})
    assert [b.limit for b in breaches_of(gate, graphs, recipe())] == ["min_cosine"]


def test_rates_are_judged_by_the_upper_end_of_their_interval(recipe: MakeRecipe) -> None:
    for high, reliable, broken in (
        (0.0099, True, []),
        (0.0101, True, ["fnmr_change_at_fmr_1e_3"]),
        (0.5, False, []),
    ):
        gate, graphs = _gate("int8", 0.99, 0.9, change=0.004, high=high, reliable=reliable)
        assert [b.limit for b in breaches_of(gate, graphs, recipe())] == broken


def test_slow_int8_and_large_bundles_break_their_limits(recipe: MakeRecipe) -> None:
    gate, graphs = _gate("int8", 0.99, 0.9, ms=13.0)
    peer = BuiltGraph("float.onnx", "onnx", "float32", b"y")
    fast = gate.graphs[0].model_copy(
        update={"path": "float.onnx", "min_cosine": 1.0, "latency": _ms(10.0)}
    )
    gate = gate.model_copy(update={"graphs": (*gate.graphs, fast)})
    limits = recipe().limits.model_dump(mode="json")
    limits["int8"]["latency_ratio"] = 1.2
    strict = recipe(limits=limits, max_megabytes=1.0)
    found = breaches_of(gate, [*graphs, peer], strict, 1_000_001)
    assert [b.key for b in found] == ["graph.onnx:latency_ratio", "bundle:max_megabytes"]
    assert [b.found for b in found] == [1.3, pytest.approx(1.000001)]


def test_breach_is_let_through_only_by_its_own_name() -> None:
    gate, _ = _gate("int8", 0.5, 0.2)
    breach = Breach("graph.onnx", "mean_cosine", 0.5, 0.9)
    table = breach_table([breach])
    assert all(cell in table for cell in ("graph.onnx", "mean_cosine", "0.9", "0.5", "0.4"))
    with pytest.raises(ExportError, match="expected GRAPH:LIMIT"):
        check_gate(gate, [breach], ["graph.onnx"], table)
    with pytest.raises(ExportError, match="expected GRAPH:LIMIT"):
        check_gate(gate, [breach], ["grph.onnx:mean_cosine"], table)
    with pytest.raises(ExportError, match="1 of the limits above is broken"):
        check_gate(gate, [breach], ["graph.onnx:min_cosine"], table)
    passed = check_gate(gate, [breach], ["graph.onnx:mean_cosine"], table)
    assert passed.allowed == ("graph.onnx:mean_cosine",)
    assert passed.graphs[0].breaches == ("mean_cosine",)


def test_finders_breach_is_judged_and_let_through_with_the_embedders() -> None:
    gate, _ = _gate("int8", 0.99, 0.9)
    breach = Breach("finder.int8.onnx", "found", 0.9, 0.97)
    key, paths = "finder.int8.onnx:found", ["finder.int8.onnx"]
    with pytest.raises(ExportError, match=f"--allow {key}"):
        check_gate(gate, [breach], [], "", paths)
    with pytest.raises(ExportError, match="expected GRAPH:LIMIT"):  # no finder was sealed in
        check_gate(gate, [], [key], "")
    passed = check_gate(gate, [breach], [key], "", paths)
    assert passed.allowed == (key,)
    assert passed.graphs[0].breaches == ()


def test_failed_export_names_graph_and_layers_and_writes_nothing(
    exported: Any, recipe: MakeRecipe, tmp_path: Path
) -> None:
    limits = recipe().limits.model_dump(mode="json")
    limits["int8"]["mean_cosine"] = 0.99999
    strict = recipe(graphs=["onnx-float32", "onnx-int8"], limits=limits)
    checkpoint = exported.path.with_name("best.pt")
    arguments = {"name": "x", "recipe": strict}
    with pytest.raises(ExportError) as caught:
        export_bundle(checkpoint, exported.folder, tmp_path / "x.limen", **arguments)
    said = str(caught.value)
    assert "embedder.int8.onnx" in said
    assert "layers of embedder.int8.onnx" in said
    assert "--allow embedder.int8.onnx:mean_cosine" in said
    assert not list(tmp_path.iterdir())
    manifest = export_bundle(
        checkpoint,
        exported.folder,
        tmp_path / "x.limen",
        allow=["embedder.int8.onnx:mean_cosine"],
        **arguments,
    )
    assert manifest.gate.allowed == ("embedder.int8.onnx:mean_cosine",)
    assert manifest.default_precision == "float32"
    assert "Let through by name" in manifest.card


def test_int8_is_the_default_only_where_it_was_shown_to_cost_little() -> None:
    int8, graphs = _gate("int8", 0.99, 0.9, change=0.001, high=0.002)
    float16 = BuiltGraph("half.tflite", "tflite", "float16", b"y")
    on_tflite = [replace(graphs[0], runtime="tflite"), float16]
    assert choose_precision(int8, on_tflite) == "int8"
    broken = int8.graphs[0].model_copy(update={"breaches": ("mean_cosine",)})
    assert choose_precision(int8.model_copy(update={"graphs": (broken,)}), on_tflite) == "float16"
    unproved, _ = _gate("int8", 0.99, 0.9, reliable=False)
    assert choose_precision(unproved, on_tflite) == "float16"


def test_threshold_floor_keeps_its_fmr() -> None:
    rng = np.random.default_rng(5)
    embeddings = unit_norm(rng.normal(size=(120, 16)).astype(np.float32))
    subject = np.arange(120) // 3
    floor = threshold_floor(CohortEmbeddings(embeddings, subject), rng)
    assert floor is not None
    scores = [
        float(embeddings[i] @ embeddings[j])
        for i in range(120)
        for j in range(i)
        if subject[i] != subject[j]
    ]
    assert 0.009 <= false_match_rate(np.array(scores), floor) <= 0.0101


def test_missing_package_names_the_extra() -> None:
    with (
        pytest.raises(RuntimeUnavailableError, match=r"pip install 'limen\[export\]'"),
        converting("a graph"),
    ):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")


def test_converter_says_nothing_and_its_failure_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail_loudly() -> None:
        print("chatter")
        raise ValueError("first\nsecond")

    with (
        pytest.raises(LimenError, match=r"a graph could not be made \(ValueError: first\);"),
        converting("a graph"),
    ):
        fail_loudly()
    assert capsys.readouterr().out == ""


def _ms(median: float) -> tuple[Latency, ...]:
    return (Latency(threads=1, median_ms=median),)


def _gate(
    precision: str,
    mean: float,
    lowest: float,
    change: float = 0.0,
    high: float = 0.0,
    reliable: bool = True,
    ms: float = 1.0,
) -> tuple[Gate, list[BuiltGraph]]:
    graph = BuiltGraph("graph.onnx", "onnx", precision, b"x")  # type: ignore[arg-type]
    fnmr = FnmrChange(
        fmr=1e-3,
        reference=0.1,
        graph=0.1 + change,
        change=change,
        low=-high,
        high=high,
        reliable=reliable,
    )
    row = GateGraph(
        path=graph.path, mean_cosine=mean, min_cosine=lowest, fnmr=(fnmr,), latency=_ms(ms)
    )
    gate = Gate(
        reference="torch float32",
        part="report",
        crops=10,
        subjects=5,
        mated_comparisons=10,
        non_mated_comparisons=100,
        confidence=0.95,
        resamples=20,
        graphs=(row,),
    )
    return gate, [graph]
