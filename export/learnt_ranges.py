"""From the ranges that training learnt to those of a graph's tensors.

Converters rename, move and fuse. So a graph's tensor is found by what it holds: where it has the
numbers of a point of the network, for the same pictures, it has that point's range.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from limen.export.activations import tflite_activations
from limen.export.errors import ExportError
from limen.scaling import SCALING

if TYPE_CHECKING:
    from limen.train.networks.embedder import EmbedderNetwork

Range = tuple[float, float]
Ranges = Literal["learnt", "calibrated"]

PROBES = 2
TOLERANCE = 1e-3  # of a tensor's largest magnitude; float graphs differ by some 1e-6


@dataclass(frozen=True, slots=True)
class LearntRanges:
    """Ranges by the network's points, and what passes these for `probes`.

    probes: (n, px, px, 3) uint8 RGB; values: by point, (n, …) float32, channels before rows and
    columns.
    """

    ranges: Mapping[str, Range]
    probes: NDArray[np.uint8]
    values: Mapping[str, NDArray[np.float32]]

    def of_tensors(self, tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, Range]:
        """The range of each of a float graph's `tensors` that holds what a point holds.

        tensors: what the graph holds for `probes`, by name, (n, …). ExportError where a point is
        found nowhere: the graph is not the network's.
        """
        wanted = {point: _laid_out(values) for point, values in self.values.items()}
        found: dict[str, Range] = {}
        seen: set[str] = set()
        for name, values in tensors.items():
            for point, layouts in wanted.items():
                if any(_are_equal(values, layout) for layout in layouts):
                    found[name] = self.ranges[point]
                    seen.add(point)
                    break
        if missing := sorted(set(self.ranges) - seen):
            raise ExportError(
                f"learnt ranges: {len(missing)} of {len(self.ranges)} tensors are not in the "
                f"converted graph, '{missing[0]}' for one; export with --ranges calibrated"
            )
        return found


def learnt_ranges(network: EmbedderNetwork, input_px: int) -> LearntRanges | None:
    """The ranges that `network` was trained with; None where it was trained in float only."""
    from limen.train.validation import to_input

    simulation = network.simulation
    if simulation is None or not simulation.is_set:
        return None
    shape = (PROBES, input_px, input_px, 3)
    probes = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    values = simulation.values(network, to_input(probes))
    return LearntRanges(
        simulation.ranges(), probes, {name: value.numpy() for name, value in values.items()}
    )


def chosen_ranges(
    network: EmbedderNetwork, input_px: int, wanted: Ranges | None
) -> LearntRanges | None:
    """The learnt ranges, where `wanted` lets them be used; None for those of pictures.

    ExportError where 'learnt' is wanted of a network that was trained in float only.
    """
    if wanted == "calibrated":
        return None
    learnt = learnt_ranges(network, input_px)
    if learnt is None and wanted == "learnt":
        raise ExportError(
            "the checkpoint was trained in float and has no int8 ranges: train on with the recipe "
            "'quantised', or export with --ranges calibrated"
        )
    return learnt


def tflite_ranges(graph: bytes, learnt: LearntRanges) -> dict[str, Range]:
    """Ranges of the tensors of a TFLite float graph, its padded tensors included, by name."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(graph))
    (subgraph,) = model.subgraphs
    names = [bytes(tensor.name).decode() for tensor in subgraph.tensors]
    flowing = [*subgraph.inputs, *(i for op in subgraph.operators for i in op.outputs)]
    runs = list(tflite_activations(graph, learnt.probes, [names[i] for i in flowing]))
    found = learnt.of_tensors({n: np.concatenate([run[n] for run in runs]) for n in runs[0]})
    for operator in subgraph.operators:  # what only moves numbers, a padding for one, keeps a range
        source, (target,) = names[operator.inputs[0]], [names[i] for i in operator.outputs]
        if target not in found and _operator(model, operator, schema) in ("PAD", "RESHAPE"):
            found[target] = found[source]
    return _complete(found, [names[i] for i in flowing])


def onnx_ranges(graph: bytes, learnt: LearntRanges) -> dict[str, Range]:
    """Ranges of the tensors of an ONNX float graph by name, but for those before a ReLU."""
    import onnx
    import onnxruntime

    model = onnx.load_model_from_string(graph)
    entry = model.graph.input[0].name
    flowing = [output for node in model.graph.node for output in node.output]
    before = {
        node.input[0] for node in model.graph.node if node.op_type in ("Relu", "Clip")
    }  # the quantiser makes one operation of both
    ends = [output.name for output in model.graph.output]
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in flowing if n not in ends)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "open.onnx"
        onnx.save(model, str(path))
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        scaled = SCALING.apply(learnt.probes).transpose(0, 3, 1, 2)
        results = session.run(flowing, {entry: np.ascontiguousarray(scaled)})
    tensors = {entry: scaled, **dict(zip(flowing, results, strict=True))}
    found = learnt.of_tensors(tensors)
    return _complete(found, [name for name in tensors if name not in before])


def _complete(found: dict[str, Range], names: list[str]) -> dict[str, Range]:
    if missing := [name for name in names if name not in found]:
        raise ExportError(
            f"learnt ranges: the converted graph has {len(missing)} tensors that training did not "
            f"round, '{missing[0]}' for one; export with --ranges calibrated"
        )
    return found


def _laid_out(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """As a graph may hold it: channels before rows and columns, or after them."""
    return [values, values.transpose(0, 2, 3, 1)] if values.ndim == 4 else [values]


def _are_equal(values: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    if values.dtype != np.float32 or values.size != expected.size:
        return False
    limit = TOLERANCE * float(np.abs(expected).max())
    return bool(np.abs(values.reshape(-1) - expected.reshape(-1)).max() <= limit)


def _operator(model: Any, operator: Any, schema: Any) -> str:
    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return str(next(k for k, v in vars(schema.BuiltinOperator).items() if v == number))
