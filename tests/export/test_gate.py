"""What is refused before anything is sealed, and what is chosen from the figures."""

# ruff: noqa: E402 - what follows the skips needs the packages

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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
from limen.export.exporter import choose_precision, export_bundle, threshold_floor
from limen.export.fold import fold
from limen.export.onnx_graphs import float32_onnx
from limen.export.parity import (
    BuiltGraph,
    ErrorRates,
    GraphParity,
    ParityReport,
    check_parity,
    measure_parity,
)
from limen.train.checkpoint import Checkpoint, save_checkpoint
from limen.train.networks.mobilenet import MobileNetEmbedder
from limen.train.pictures import Pictures
from limen.train.validation import embed_pictures, to_input

Make = Callable[[int], MobileNetEmbedder]


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
    tiny_network: Make, held_out: Pictures, crops: NDArray[np.uint8]
) -> None:
    trained = embed_pictures(tiny_network(1), held_out, crops.shape[1])
    other = float32_onnx(fold(tiny_network(9)), crops.shape[1])
    graph = BuiltGraph("embedder.float32.onnx", "onnx", "float32", other)
    report = measure_parity([graph], crops, trained, held_out.identity, "report")
    with pytest.raises(ExportError, match=r"'embedder\.float32\.onnx'.*expected 0\.9999 or more"):
        check_parity(report)


@pytest.mark.parametrize(
    ("precision", "mean", "lowest", "passes"),
    [
        ("float32", 1.0, 0.9999, True),
        ("float32", 1.0, 0.9998, False),
        ("float16", 1.0, 0.999, True),
        ("float16", 1.0, 0.9989, False),
        ("int8", 0.9, 0.2, True),
        ("int8", 0.8999, 0.2, False),
    ],
)
def test_each_precision_has_its_limit(
    precision: str, mean: float, lowest: float, passes: bool
) -> None:
    report = _report(precision, mean, lowest)
    if passes:
        check_parity(report)
    else:
        with pytest.raises(ExportError, match="nothing was sealed"):
            check_parity(report)


def test_not_a_number_fails_the_gate() -> None:
    with pytest.raises(ExportError, match="expected"):
        check_parity(_report("float32", float("nan"), float("nan")))


def test_int8_is_the_default_only_where_it_costs_little() -> None:
    report = _report("int8", 0.99, 0.9)
    assert choose_precision(_with_fnmr(report, trained=0.100, graph=0.105)) == "int8"
    assert choose_precision(_with_fnmr(report, trained=0.100, graph=0.120)) == "float32"
    assert choose_precision(report) == "float32"


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


def _report(precision: str, mean: float, lowest: float) -> ParityReport:
    graph = BuiltGraph("graph.onnx", "onnx", precision, b"x")  # type: ignore[arg-type]
    return ParityReport("report", None, (GraphParity(graph, 10, mean, lowest, None),))


def _with_fnmr(report: ParityReport, trained: float, graph: float) -> ParityReport:
    rates = ErrorRates(0.0, graph, 10, 100, 5)
    rows = tuple(replace(row, rates=rates) for row in report.graphs)
    return replace(report, trained=replace(rates, fnmr_at_fmr_1e_3=trained), graphs=rows)
