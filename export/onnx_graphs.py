"""ONNX graphs of a folded network: float32, and int8 in the QDQ form."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limen.export.errors import converting
from limen.export.learnt_ranges import LearntRanges, onnx_ranges
from limen.scaling import SCALING

if TYPE_CHECKING:
    from torch import nn

INPUT, OUTPUT = "crops", "embeddings"
OPSET = 18

# A range is a moving average of the extremes of batches: the extremes of all crops leave too few
# steps for what is common. On the first door network (part 'choose', FNMR at FMR 1e-3, torch
# .3018) that is .3104 against .3451.
CALIBRATION_BATCH = 16
RANGES = {"CalibMovingAverage": True, "CalibMovingAverageConstant": 0.05}


def float32_onnx(folded: nn.Module, input_px: int | tuple[int, int]) -> bytes:
    """The network as ONNX: 'crops' (batch, 3, px, px) -> 'embeddings' (batch, D), float32.

    input_px: of a square, or height and width. folded: of `limen.export.fold.fold`. Nothing of the machine that exported (paths in stack
    traces, names of modules) stays in the graph. RuntimeUnavailableError without the packages.
    """
    with converting("the ONNX float32 graph"), tempfile.TemporaryDirectory() as folder:
        import onnx
        import torch

        height, width = (input_px, input_px) if isinstance(input_px, int) else input_px
        program = torch.onnx.export(
            folded,
            (torch.zeros(2, 3, height, width),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        path = Path(folder) / "graph.onnx"
        program.save(str(path))
        return _without_metadata(onnx.load(str(path)))


def int8_onnx(
    float_graph: bytes,
    crops: NDArray[np.uint8],
    float_operations: Collection[str] = (),
    learnt: LearntRanges | None = None,
) -> bytes:
    """`float_graph` with int8 weights, a scale each output channel, and int8 activations.

    crops: (n, px, px, 3) uint8 RGB, from which the activations' ranges are taken, unless they were
    learnt in training (`limen.export.learnt_ranges`).
    float_operations: ONNX operations that stay float32, as input and output do.
    """
    with converting("the ONNX int8 graph"), tempfile.TemporaryDirectory() as folder:
        import onnx
        from onnxruntime.quantization import (
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process

        whole, prepared, quantised = (Path(folder) / f"{n}.onnx" for n in ("f", "p", "q"))
        whole.write_bytes(float_graph)
        quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
        options: dict[str, Any] = RANGES
        if learnt is not None:  # the quantiser wants a calibration nevertheless
            crops, options = crops[:1], {**RANGES, **_overrides(prepared.read_bytes(), learnt)}
        quantize_static(
            str(prepared),
            str(quantised),
            _calibration_reader(crops),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[
                node.name
                for node in onnx.load(str(prepared)).graph.node
                if node.op_type in float_operations
            ],
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=options,
        )
        return _without_metadata(onnx.load(str(quantised)))


def _overrides(prepared: bytes, learnt: LearntRanges) -> dict[str, Any]:
    ranges = onnx_ranges(prepared, learnt)
    return {
        "TensorQuantOverrides": {
            name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
            for name, (low, high) in ranges.items()
        }
    }


def _calibration_reader(crops: NDArray[np.uint8]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = _batches(crops)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    return Reader()


def _batches(crops: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(crops), CALIBRATION_BATCH):
        scaled = SCALING.apply(crops[start : start + CALIBRATION_BATCH])
        yield np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _without_metadata(model: Any) -> bytes:
    """Serialised without the exporter's notes, which quote file paths and source lines."""
    graph = model.graph
    for holder in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        del holder.metadata_props[:]
    for holder in (model, graph, *graph.node):
        holder.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))
