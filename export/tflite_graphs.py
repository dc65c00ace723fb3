"""TFLite graphs of a folded network: float32, float16 weights, and int8 throughout."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limen.export.errors import converting
from limen.export.learnt_ranges import LearntRanges, Range, tflite_ranges
from limen.export.onnx_graphs import kept_names
from limen.export.ranges import histogram_ranges
from limen.export.recipe import Calibration
from limen.scaling import SCALING

if TYPE_CHECKING:
    from torch import nn

SIGNATURE, INPUT = "serving_default", "args_0"

# A range is the mean of the extremes of groups of crops. The quantiser's own moving average of
# single crops cuts off more: on the first door network (part 'choose', FNMR at FMR 1e-3, torch
# .3018) it gives .3163, groups of 16 .3082, of 64 .3139.
CALIBRATION_GROUP = 16


def float32_tflite(folded: nn.Module, input_px: int | tuple[int, int]) -> bytes:
    """The network as TFLite: (1, px, px, 3) -> (1, D), float32, channels last.

    input_px: of a square, or height and width; folded: of `limen.export.fold.fold`.
    RuntimeUnavailableError without the packages.
    """
    with converting("the TFLite float32 graph"), tempfile.TemporaryDirectory() as folder:
        import litert_torch
        import torch

        height, width = (input_px, input_px) if isinstance(input_px, int) else input_px
        channels_last = litert_torch.to_channel_last_io(folded, args=[0])
        path = Path(folder) / "graph.tflite"
        example = (torch.zeros(1, height, width, 3),)
        litert_torch.convert(channels_last.eval(), example).export(str(path))
        return path.read_bytes()


def float16_tflite(float_graph: bytes) -> bytes:
    """`float_graph` with 16-bit weights, widened when it is loaded: half the size, float speed."""
    with converting("the TFLite float16 graph"):
        from ai_edge_quantizer import qtyping, recipe_manager

        recipe = recipe_manager.RecipeManager()
        recipe.add_quantization_config(
            regex=".*",
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=qtyping.TensorQuantizationConfig(
                    num_bits=16, dtype=qtyping.TensorDataType.FLOAT
                ),
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
            algorithm_key="float_casting",
        )
        return _quantised(float_graph, recipe, None)


def int8_tflite(
    float_graph: bytes,
    crops: NDArray[np.uint8],
    calibration: Calibration | None = None,
    keep_float: Sequence[str] = (),
    io: str = "float32",
    float_operations: Collection[str] = (),
    learnt: LearntRanges | None = None,
) -> bytes:
    """`float_graph` with int8 weights, a scale each output channel, and int8 activations.

    crops: (n, px, px, 3) uint8 RGB, from which the activations' ranges are taken, by the method of
    `calibration`, unless they are `learnt` ones; keep_float: regular expressions, the layers in whose names one is found stay in
    float, and so do all `float_operations`, by the quantiser's names; io: 'float32', so that every
    graph is called the same way, or 'int8'.
    ExportError where an expression finds no layer.
    """
    calibration = calibration or Calibration()
    with converting("the TFLite int8 graph"):
        from ai_edge_quantizer import qtyping, recipe_manager

        recipe = recipe_manager.RecipeManager()
        recipe.add_static_config(
            regex=".*",
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            activation_num_bits=8,
            weight_num_bits=8,
        )
        kept_names(layer_names(float_graph), keep_float)
        for expression in keep_float:
            recipe.add_quantization_config(
                regex=f".*(?:{expression}).*",
                operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
                algorithm_key="no_quantize",
            )
        ends = ("INPUT", "OUTPUT") if io == "float32" else ()
        for kept in (*ends, *float_operations):
            recipe.add_quantization_config(
                regex=".*",
                operation_name=qtyping.TFLOperationName[kept],
                algorithm_key="no_quantize",
            )
        return _quantised(float_graph, recipe, crops, calibration, learnt)


def layer_names(graph: bytes) -> list[str]:
    """The names of the tensors that the graph's operators give, in their order."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(graph))
    (subgraph,) = model.subgraphs
    return [
        bytes(subgraph.tensors[index].name).decode()
        for operator in subgraph.operators
        for index in operator.outputs
    ]


def _quantised(
    float_graph: bytes,
    recipe: Any,
    crops: NDArray[np.uint8] | None,
    calibration: Calibration | None = None,
    learnt: LearntRanges | None = None,
) -> bytes:
    from ai_edge_quantizer import quantizer

    work = quantizer.Quantizer(float_graph, recipe.get_quantization_recipe())
    ranges = None
    if crops is not None and learnt is not None:
        ranges = _ranges(work, crops[:1], Calibration())  # the weights' are among them
        _put(ranges, tflite_ranges(float_graph, learnt))
    elif crops is not None and calibration is not None:
        ranges = _ranges(work, crops, calibration)
        if calibration.tflite in ("percentile", "entropy"):
            _narrow(ranges, float_graph, crops, calibration)
    result = work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _ranges(
    work: Any, crops: NDArray[np.uint8], calibration: Calibration
) -> dict[str, dict[str, Any]]:
    """For each tensor of the graph, 'min' and 'max' in the shapes that the quantiser gave them."""
    samples: list[dict[str, dict[str, Any]]] = [
        work.calibrate({SIGNATURE: [{INPUT: SCALING.apply(crop)[None]}]}, num_threads=1)
        for crop in crops
    ]
    groups = 1
    if calibration.tflite == "moving-average":
        groups = max(1, len(samples) // CALIBRATION_GROUP)
    members = np.array_split(np.arange(len(samples)), groups)
    return {
        tensor: {
            **first,
            **{
                end: _mean_extreme([sample[tensor][end] for sample in samples], members, extreme)
                for end, extreme in (("min", np.min), ("max", np.max))
                if end in first
            },
        }
        for tensor, first in samples[0].items()
    }


def _narrow(
    ranges: dict[str, dict[str, Any]],
    float_graph: bytes,
    crops: NDArray[np.uint8],
    calibration: Calibration,
) -> None:
    """Put the ranges of histograms in place of the extremes, for what the operators give."""
    found = histogram_ranges(
        float_graph, layer_names(float_graph), crops, calibration.tflite, calibration.percentile
    )
    _put(ranges, found)


def _put(ranges: dict[str, dict[str, Any]], found: Mapping[str, Range]) -> None:
    for name, (low, high) in found.items():
        entry = ranges.get(name, {})
        for end, value in (("min", low), ("max", high)):
            if end in entry:
                entry[end] = np.full_like(entry[end], value)


def _mean_extreme(
    values: list[NDArray[np.float32]], groups: list[NDArray[np.int64]], extreme: Any
) -> NDArray[np.float32]:
    stacked = np.stack(values)
    return np.asarray(np.mean([extreme(stacked[g], axis=0) for g in groups], axis=0), np.float32)
