"""ONNX graphs of a folded network: float32, float16, and int8 in the QDQ form."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limen.export.errors import ExportError, converting
from limen.export.learnt_ranges import LearntRanges, onnx_ranges
from limen.export.recipe import Calibration
from limen.scaling import SCALING

if TYPE_CHECKING:
    from torch import nn

INPUT, OUTPUT = "crops", "embeddings"
OPSET = 18

# A range is a moving average of the extremes of batches: the extremes of all crops leave too few
# steps for what is common. On the first door network (part 'choose', FNMR at FMR 1e-3, torch
# .3018) that is .3104 against .3451.
CALIBRATION_BATCH = 16
MOVING_AVERAGE = {"CalibMovingAverage": True, "CalibMovingAverageConstant": 0.05}

Prepare = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def float32_onnx(folded: nn.Module, input_px: int | tuple[int, int]) -> bytes:
    """The network as ONNX: 'crops' (batch, 3, px, px) -> 'embeddings' (batch, D), float32.

    input_px: of a square, or height and width; folded: of `limen.export.fold.fold`. Nothing of the
    machine that exported (paths in stack traces, names of modules) stays in the graph.
    RuntimeUnavailableError without the packages.
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
        return _without_metadata(slimmed(onnx.load(str(path))))


def slimmed(model: Any) -> Any:
    """An onnx model with constants folded and what nothing needs removed, by onnxslim."""
    import onnxslim

    return onnxslim.slim(model)


def batch_of_1(float_graph: bytes) -> bytes:
    """The same graph for exactly one crop, which some compilers and accelerators ask for."""
    with converting("the ONNX graph for one crop"):
        import onnx

        model = onnx.load_model_from_string(float_graph)
        for end in (*model.graph.input, *model.graph.output):
            end.type.tensor_type.shape.dim[0].dim_value = 1
        del model.graph.value_info[:]
        return _without_metadata(slimmed(model))


def float16_onnx(float_graph: bytes) -> bytes:
    """`float_graph` with 16-bit weights and arithmetic; input and output stay float32."""
    with converting("the ONNX float16 graph"):
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = onnx.load_model_from_string(float_graph)
        return _without_metadata(convert_float_to_float16(model, keep_io_types=True))


def scaled_channels_first(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, px, px, 3) uint8 RGB as our own networks take them, (n, 3, px, px)."""
    return np.ascontiguousarray(SCALING.apply(crops).transpose(0, 3, 1, 2))


def prepared_onnx(float_graph: bytes) -> bytes:
    """`float_graph` as the quantiser sees it: shapes known, batch normalisations folded."""
    with converting("the ONNX int8 graph"), tempfile.TemporaryDirectory() as folder:
        from onnxruntime.quantization.shape_inference import quant_pre_process

        whole, prepared = Path(folder) / "f.onnx", Path(folder) / "p.onnx"
        whole.write_bytes(float_graph)
        quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
        return prepared.read_bytes()


def int8_onnx(
    float_graph: bytes,
    crops: NDArray[np.uint8],
    calibration: Calibration | None = None,
    keep_float: Sequence[str] = (),
    prepare: Prepare = scaled_channels_first,
    float_operations: Collection[str] = (),
    learnt: LearntRanges | None = None,
) -> bytes:
    """`float_graph` with int8 weights, a scale each output channel, and int8 activations.

    crops: (n, px, px, 3) uint8 RGB, from which the activations' ranges are taken, by the method of
    `calibration`, unless they are `learnt` ones; keep_float: regular expressions, the nodes in whose names one is found stay in
    float, and so do all nodes of `float_operations`; prepare: what makes the graph's input of crops.
    Input and output stay float32.
    ExportError where an expression finds no node.
    """
    calibration = calibration or Calibration()
    prepared_graph = prepared_onnx(float_graph)
    with converting("the ONNX int8 graph"), tempfile.TemporaryDirectory() as folder:
        import onnx
        from onnxruntime.quantization import (
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        prepared, quantised = (Path(folder) / f"{n}.onnx" for n in ("p", "q"))
        prepared.write_bytes(prepared_graph)
        model = onnx.load_model_from_string(prepared_graph)
        method, options = {
            "moving-average": (CalibrationMethod.MinMax, MOVING_AVERAGE),
            "min-max": (CalibrationMethod.MinMax, {}),
            # One batch at a time, or all activations of all crops would be held at once.
            "percentile": (
                CalibrationMethod.Percentile,
                {"CalibPercentile": calibration.percentile, "CalibStridedMinMax": 1},
            ),
            "entropy": (CalibrationMethod.Entropy, {"CalibStridedMinMax": 1}),
        }[calibration.onnx]
        if learnt is not None:  # the quantiser wants a calibration nevertheless, for other tensors
            overrides = {
                name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
                for name, (low, high) in onnx_ranges(prepared_graph, learnt).items()
            }
            crops, options = crops[:1], {"TensorQuantOverrides": overrides}
            method = CalibrationMethod.MinMax
        quantize_static(
            str(prepared),
            str(quantised),
            _calibration_reader(crops, model.graph.input[0].name, prepare),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            nodes_to_exclude=[
                *kept_names([n.name for n in model.graph.node], keep_float),
                *(n.name for n in model.graph.node if n.op_type in float_operations),
            ],
            extra_options=options,
        )
        return _without_metadata(onnx.load(str(quantised)))


def kept_names(names: Sequence[str], keep_float: Sequence[str]) -> list[str]:
    """The layers' names in which an expression is found. ExportError for one that finds none."""
    kept: set[str] = set()
    for expression in keep_float:
        try:
            found = {name for name in names if re.search(expression, name)}
        except re.error as error:
            raise ExportError(f"keep_float: '{expression}' is no regular expression") from error
        if not found:
            raise ExportError(
                f"keep_float: no layer's name holds '{expression}'; 'limen export --layers' lists them"
            )
        kept |= found
    return sorted(kept)


def _calibration_reader(crops: NDArray[np.uint8], name: str, prepare: Prepare) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = _batches(crops, prepare)

        def __len__(self) -> int:
            return -(-len(crops) // CALIBRATION_BATCH)

        def set_range(self, start_index: int, end_index: int) -> None:
            some = crops[start_index * CALIBRATION_BATCH : end_index * CALIBRATION_BATCH]
            self._batches = _batches(some, prepare)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {name: batch}

    return Reader()


def _batches(crops: NDArray[np.uint8], prepare: Prepare) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(crops), CALIBRATION_BATCH):
        yield prepare(crops[start : start + CALIBRATION_BATCH])


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
