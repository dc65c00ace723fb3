"""Every family, at two widths, through both converters and both precisions."""

# ruff: noqa: E402 - what follows the skips needs the packages

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

for _package in ("torch", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
    pytest.importorskip(_package)

import torch

from limen.export.fold import fold
from limen.export.gate import HeldOut, breaches_of, measure_gate
from limen.export.graphs import BuiltGraph
from limen.export.onnx_graphs import float32_onnx, int8_onnx
from limen.export.recipe import ExportRecipe
from limen.export.tflite_graphs import float32_tflite, int8_tflite
from limen.train.networks.blocks import InvertedResidual, SqueezeExcite
from limen.train.networks.embedder import EmbedderNetwork
from limen.train.networks.family import FAMILIES, build_network
from limen.train.recipe import Model
from limen.train.validation import to_input

PX = 112


@pytest.fixture(scope="module")
def blotches() -> NDArray[np.uint8]:
    """Blotchy crops, (24, 112, 112, 3)."""
    rng = np.random.default_rng(0)
    small = rng.uniform(0, 255, (24, 7, 7, 3)).astype(np.float32)
    large = [cv2.resize(s, (PX, PX), interpolation=cv2.INTER_CUBIC) for s in small]
    return np.clip(np.stack(large), 0, 255).astype(np.uint8)


def calm(family: str, width: float) -> EmbedderNetwork:
    """A random network that neither drowns a layer in rounding nor amplifies the rounding."""
    torch.manual_seed(1)
    network = build_network(Model.model_validate({"family": family, "width": width}))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_in")
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
            torch.nn.init.uniform_(module.weight, 0.9, 1.1)
            torch.nn.init.normal_(module.bias, std=0.1)
    for block in network.modules():
        gated = isinstance(block, InvertedResidual) and any(
            isinstance(layer, SqueezeExcite) for layer in block.layers
        )
        if gated:  # what gates of about 3 multiply, training's normalisation divides out again
            block.layers[-2].expand.weight.data *= 0.1
            torch.nn.init.constant_(block.layers[-2].expand.bias, 3.0)
            block.layers[-1].conv.weight.data /= 3
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.25, 0.5])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_family_exports_to_both_runtimes_and_precisions(
    family: str, width: float, blotches: NDArray[np.uint8]
) -> None:
    network = calm(family, width)
    with torch.no_grad():
        trained = torch.nn.functional.normalize(network(to_input(blotches))).numpy()
    folded = fold(network)
    onnx, tflite = float32_onnx(folded, PX), float32_tflite(folded, PX)
    graphs = [
        BuiltGraph("a.onnx", "onnx", "float32", onnx),
        BuiltGraph("b.onnx", "onnx", "int8", int8_onnx(onnx, blotches)),
        BuiltGraph("c.tflite", "tflite", "float32", tflite),
        BuiltGraph("d.tflite", "tflite", "int8", int8_tflite(tflite, blotches)),
    ]
    recipe = ExportRecipe(graphs=("onnx-float32",), latency_runs=1, threads=(1,))
    gate = measure_gate(graphs, HeldOut("blotches", blotches, trained, None), recipe)
    print(family, width, [(row.path, row.mean_cosine, row.min_cosine) for row in gate.graphs])
    assert breaches_of(gate, graphs, recipe) == []
