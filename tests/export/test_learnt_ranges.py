"""Ranges learnt in training reach both int8 graphs, which then compute what training simulated."""

# ruff: noqa: E402 - what follows the skips needs the packages

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

for _package in ("torch", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
    pytest.importorskip(_package)

import torch

from limen.export.errors import ExportError
from limen.export.exporter import export_bundle
from limen.export.fold import fold
from limen.export.gate import embed_with
from limen.export.graphs import BuiltGraph
from limen.export.learnt_ranges import (
    LearntRanges,
    chosen_ranges,
    learnt_ranges,
    onnx_ranges,
    tflite_ranges,
)
from limen.export.onnx_graphs import float32_onnx, int8_onnx
from limen.export.recipe import ExportRecipe
from limen.export.tflite_graphs import float32_tflite, int8_tflite
from limen.scaling import SCALING
from limen.train.checkpoint import Checkpoint, save_checkpoint
from limen.train.networks.embedder import EmbedderNetwork
from limen.train.networks.family import build_network
from limen.train.networks.mobilenet import MobileNetEmbedder
from limen.train.quantisation.arithmetic import scale_and_zero_point
from limen.train.recipe import Model
from limen.train.validation import to_input

PX = 28
# 'mobilenet' ships. 'mobilenet-v3' has all there is to map: inverted residuals, additions,
# squeeze-and-excitation, ReLU6, padding. Its random gates make a large difference of a small one,
# so that the few values that the runtimes' integers round the other way grow on their way out.
LEAST_AGREEMENT = {"mobilenet": 0.999, "mobilenet-v3": 0.97}


@dataclass(frozen=True)
class Converted:
    """A network with ranges, its float graphs, and what it gives with int8 simulated."""

    network: EmbedderNetwork
    crops: NDArray[np.uint8]
    learnt: LearntRanges
    onnx: bytes
    tflite: bytes
    simulated: NDArray[np.float32]


def blotches(count: int, seed: int) -> NDArray[np.uint8]:
    """Blotchy crops, (count, PX, PX, 3)."""
    small = np.random.default_rng(seed).uniform(0, 255, (count, 7, 7, 3)).astype(np.float32)
    large = [cv2.resize(s, (PX, PX), interpolation=cv2.INTER_CUBIC) for s in small]
    return np.clip(np.stack(large), 0, 255).astype(np.uint8)


def random_network(family: str, seed: int) -> EmbedderNetwork:
    """Scaled and shifted in every layer as a trained one is."""
    torch.manual_seed(seed)
    network = build_network(Model.model_validate({"family": family, "width": 0.125}), PX)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_in")
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
            torch.nn.init.normal_(module.bias, std=0.1)
    return network.eval()


@pytest.fixture(scope="module", params=LEAST_AGREEMENT)
def converted(request: pytest.FixtureRequest) -> Converted:
    network = random_network(request.param, seed=1)
    crops = blotches(48, seed=0)
    if request.param == "mobilenet-v3":  # its gates multiply the activations up and up
        network.train()
        with torch.no_grad():
            for _ in range(60):
                network(to_input(crops))
    network.eval()
    simulation = network.add_simulation()
    simulation.observe(network, [to_input(crops[:24]), to_input(crops[24:])])
    with torch.no_grad():  # as if learnt: other than any calibration would find
        simulation.change.copy_(torch.full_like(simulation.change, -0.005))
        simulation.is_active = True
        simulated = torch.nn.functional.normalize(network(to_input(crops))).numpy()
        simulation.is_active = False
    learnt = learnt_ranges(network, PX)
    assert learnt is not None
    folded = fold(network)
    onnx, tflite = float32_onnx(folded, PX), float32_tflite(folded, PX)
    return Converted(network, crops, learnt, onnx, tflite, simulated)


def test_every_point_is_found_in_both_graphs(converted: Converted) -> None:
    wanted = set(converted.learnt.ranges.values())
    assert set(tflite_ranges(converted.tflite, converted.learnt).values()) == wanted
    assert set(onnx_ranges(converted.onnx, converted.learnt).values()) == wanted


def test_tflite_graph_has_the_learnt_steps_and_zero_points(converted: Converted) -> None:
    from ai_edge_litert.interpreter import Interpreter

    graph = int8_tflite(converted.tflite, converted.crops, learnt=converted.learnt)
    details = Interpreter(model_content=graph).get_tensor_details()
    found = {
        (round(1e6 * d["quantization"][0] / scale), d["quantization"][1] - zero)
        for low, high in converted.learnt.ranges.values()
        for scale, zero in [scale_and_zero_point(low, high)]
        for d in details
        if d["dtype"] is np.int8 and abs(d["quantization"][0] / scale - 1) < 1e-5
    }
    assert found == {(1_000_000, 0)}
    steps = [d["quantization"][0] for d in details if d["dtype"] is np.int8]
    for low, high in converted.learnt.ranges.values():
        assert np.isclose(steps, scale_and_zero_point(low, high)[0], rtol=1e-5).any()


@pytest.mark.parametrize("runtime", ["tflite", "onnx"])
def test_int8_graph_computes_what_training_simulated(converted: Converted, runtime: str) -> None:
    build, graph = (
        (int8_tflite, converted.tflite) if runtime == "tflite" else (int8_onnx, converted.onnx)
    )
    agreement = {}
    for name, learnt in (("learnt", converted.learnt), ("calibrated", None)):
        content = build(graph, converted.crops, learnt=learnt)
        built = BuiltGraph(f"{name}.{runtime}", runtime, "int8", content)  # type: ignore[arg-type]
        embeddings = embed_with(built, converted.crops)
        agreement[name] = np.einsum("nd,nd->n", embeddings, converted.simulated)
    print(runtime, {name: (c.mean(), c.min()) for name, c in agreement.items()})
    assert agreement["learnt"].mean() >= LEAST_AGREEMENT[converted.network.family]
    assert agreement["learnt"].mean() > agreement["calibrated"].mean()


def test_training_for_int8_mends_what_calibration_cannot() -> None:
    network = random_network("mobilenet", seed=2)
    widen_channels(network)
    fit, held_out = blotches(96, seed=1), blotches(64, seed=2)
    normalise = torch.nn.functional.normalize
    with torch.no_grad():
        target, expected = (normalise(network(to_input(crops))) for crops in (fit, held_out))
    calibrated = int8_tflite(float32_tflite(fold(network), PX), fit)
    simulation = network.add_simulation()
    simulation.observe(network, to_input(fit).split(16))
    simulation.is_active = True
    optimizer = torch.optim.Adam(network.parameters())
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / 60)
        rows = slice(32 * (step % 3), 32 * (step % 3) + 32)
        embeddings = normalise(network(to_input(fit[rows])))
        loss = (1 - (embeddings * target[rows]).sum(1)).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    simulation.is_active = False
    learnt = learnt_ranges(network, PX)
    trained = int8_tflite(float32_tflite(fold(network), PX), fit, learnt=learnt)
    errors = [
        1 - float((embed_with(_built(graph), held_out) * expected.numpy()).sum(1).mean())
        for graph in (calibrated, trained)
    ]
    print("1 - cosine to the float network: calibrated, trained", errors)
    assert errors[1] < 0.7 * errors[0]


def widen_channels(network: EmbedderNetwork, factor: float = 30.0) -> None:
    """Make a channel of three layers `factor` times as wide, and take it back behind the ReLU.

    The float network stays what it is; in int8, the layer's other channels are left few steps
    (Nagel et al., arXiv:1906.04721, section 3).
    """
    assert isinstance(network, MobileNetEmbedder)
    blocks = network.blocks()
    first = (network.stem, blocks[2][1], blocks[6][1])
    second = (blocks[0][0], blocks[3][0], blocks[7][0])
    with torch.no_grad():
        for before, behind in zip(first, second, strict=True):
            before.norm.weight[0] *= factor
            before.norm.bias[0] *= factor
            behind.conv.weight[0] /= factor


def _built(graph: bytes) -> BuiltGraph:
    return BuiltGraph("a.tflite", "tflite", "int8", graph)


def test_ranges_of_another_network_are_refused(converted: Converted) -> None:
    shifted = {name: values + 1.0 for name, values in converted.learnt.values.items()}
    with pytest.raises(ExportError, match="--ranges calibrated"):
        int8_onnx(converted.onnx, converted.crops, learnt=replace(converted.learnt, values=shifted))


def test_a_tensor_that_training_did_not_round_is_refused(converted: Converted) -> None:
    learnt = converted.learnt
    less = {name: value for name, value in learnt.ranges.items() if name != "stem.2"}
    values = {name: learnt.values[name] for name in less}
    with pytest.raises(ExportError, match="training did not round"):
        tflite_ranges(converted.tflite, replace(learnt, ranges=less, values=values))


def test_learnt_ranges_are_taken_where_there_are_any(
    converted: Converted, tiny_network: Callable[[int], MobileNetEmbedder]
) -> None:
    assert chosen_ranges(converted.network, PX, None) is not None
    assert chosen_ranges(converted.network, PX, "learnt") is not None
    assert chosen_ranges(converted.network, PX, "calibrated") is None
    plain = tiny_network(1)
    assert chosen_ranges(plain, 112, None) is None
    with pytest.raises(ExportError, match="trained in float"):
        chosen_ranges(plain, 112, "learnt")
    plain.add_simulation()  # as before the first step of a stage with quantisation
    assert chosen_ranges(plain, 112, None) is None


def test_the_float_network_is_what_it_was_without_ranges(converted: Converted) -> None:
    embeddings = embed_with(
        BuiltGraph("f.onnx", "onnx", "float32", converted.onnx), converted.crops[:4]
    )
    with torch.no_grad():
        scaled = torch.from_numpy(SCALING.apply(converted.crops[:4])).permute(0, 3, 1, 2)
        trained = torch.nn.functional.normalize(converted.network(scaled)).numpy()
    np.testing.assert_allclose(embeddings, trained, atol=1e-4)


def test_a_bundle_says_that_its_ranges_were_learnt(
    tiny_network: Callable[[int], MobileNetEmbedder],
    tiny_checkpoint: Callable[[MobileNetEmbedder], Checkpoint],
    picture_folder: Path,
    crops: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    network = tiny_network(1)
    network.add_simulation().observe(network, to_input(crops).split(8))
    save_checkpoint(tmp_path / "best.pt", tiny_checkpoint(network))
    recipe = ExportRecipe(graphs=("tflite-int8", "onnx-int8"), latency_runs=1, threads=(1,))
    manifest = export_bundle(
        tmp_path / "best.pt", picture_folder, tmp_path / "x.limen", name="x", recipe=recipe
    )
    assert manifest.provenance["export"]["int8_ranges"] == "learnt"
