"""Where an int8 graph loses what: the signal-to-quantisation-noise ratio, layer by layer.

SQNR = 20 log10(|float| / |float - int8|), over all crops, of what a layer gives in the float graph
and in the int8 graph, errors of the layers before it included. A layer that falls by several
decibels against the one before it is where to look: keep it in float by its name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.export.activations import tflite_activations
from limen.export.errors import converting
from limen.export.onnx_graphs import Prepare, prepared_onnx, scaled_channels_first
from limen.export.tflite_graphs import layer_names


@dataclass(frozen=True, slots=True)
class LayerError:
    """A layer's name, in the graph's order, its SQNR in decibels, and what it lost of it."""

    name: str
    sqnr_db: float
    lost_db: float


def onnx_layers(
    float_graph: bytes,
    int8_graph: bytes,
    crops: NDArray[np.uint8],
    prepare: Prepare = scaled_channels_first,
) -> list[LayerError]:
    """Layers of an ONNX QDQ graph, by ONNX Runtime's own debugger. Names are nodes' names."""
    prepared = prepared_onnx(float_graph)
    with converting("the layers' errors"), tempfile.TemporaryDirectory() as folder:
        import onnx
        from onnxruntime.quantization import qdq_loss_debug as debug

        model = onnx.load_model_from_string(prepared)
        node_of = {output: n.name for n in model.graph.node for output in n.output}
        entry = model.graph.input[0].name
        collected: list[Any] = []
        for name, graph in (("float", prepared), ("int8", int8_graph)):
            plain, opened = Path(folder) / f"{name}.onnx", Path(folder) / f"{name}-open.onnx"
            plain.write_bytes(graph)
            debug.modify_model_output_intermediate_tensors(str(plain), str(opened))
            reader = ({entry: prepare(crop[None])} for crop in crops)
            collected.append(debug.collect_activations(str(opened), _reader(reader)))
        matched = debug.create_activation_matching(collected[1], collected[0])
        errors = debug.compute_activation_error(matched)
    ratios = {
        node_of[tensor]: float(error["xmodel_err"])
        for tensor, error in errors.items()
        if tensor in node_of and "xmodel_err" in error
    }
    in_order = [n.name for n in model.graph.node if n.name in ratios]
    return _with_losses([(name, ratios[name]) for name in in_order])


def tflite_layers(
    float_graph: bytes, int8_graph: bytes, crops: NDArray[np.uint8]
) -> list[LayerError]:
    """Layers of a TFLite int8 graph. Names are those of the tensors that the operators give."""
    names = layer_names(float_graph)
    power: dict[str, float] = {}
    noise: dict[str, float] = {}
    pairs = zip(
        tflite_activations(float_graph, crops, names),
        tflite_activations(int8_graph, crops, names),
        strict=True,
    )
    for before, after in pairs:
        for name in names:
            if name not in before or name not in after or before[name].shape != after[name].shape:
                continue
            difference = before[name].astype(np.float64) - after[name]
            power[name] = power.get(name, 0.0) + float((before[name].astype(np.float64) ** 2).sum())
            noise[name] = noise.get(name, 0.0) + float((difference**2).sum())
    tiny = np.finfo(np.float64).tiny
    ratios = [
        (name, 10 * float(np.log10(max(power[name], tiny) / max(noise[name], tiny))))
        for name in names
        if name in noise
    ]
    return _with_losses(ratios)


def worst_layers(layers: list[LayerError], count: int = 5) -> list[LayerError]:
    """Those that lost the most against the layer before them, the worst first."""
    return sorted(layers, key=lambda layer: -layer.lost_db)[:count]


def _with_losses(ratios: list[tuple[str, float]]) -> list[LayerError]:
    """The loss of the first layer is against 8 bits of a uniform signal, some 50 dB."""
    before, layers = 50.0, []
    for name, ratio in ratios:
        layers.append(LayerError(name, round(ratio, 2), round(before - ratio, 2)))
        before = ratio
    return layers


def _reader(inputs: Iterator[dict[str, NDArray[np.float32]]]) -> Any:
    """What ONNX Runtime's debugger reads inputs from."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(inputs, None)

    return Reader()
