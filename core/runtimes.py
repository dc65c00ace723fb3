"""Inference runtimes behind one call: LiteRT, tflite-runtime, ONNX Runtime.

Each is imported when it is used. A session takes and gives float32, whatever runs inside.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limen.errors import BundleError, RuntimeUnavailableError

TFLITE, ONNX = "tflite", "onnx"
RUNTIMES = (TFLITE, ONNX)


class Session(Protocol):
    """A loaded graph with one input and one output."""

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, …) in the graph's own layout -> (N, D) float32."""
        ...


def available_runtimes() -> list[str]:
    """The runtimes that are installed, preferred first."""
    return [name for name in RUNTIMES if any(_installed(m) for m in _MODULES[name])]


_MODULES = {TFLITE: ("ai_edge_litert", "tflite_runtime"), ONNX: ("onnxruntime",)}
_INSTALL = {TFLITE: "ai-edge-litert", ONNX: "onnxruntime"}


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def open_session(runtime: str, graph: bytes, threads: int = 1) -> Session:
    """Load a graph. RuntimeUnavailableError where nothing here runs it, BundleError for a bad graph."""
    return _opened({TFLITE: _TFLite, ONNX: _Onnx}, runtime, graph, threads)


def open_reference_session(graph: bytes) -> Session:
    """A TFLite graph on the plain reference kernels: slow, and rounding in other places.

    How far it is from `open_session` shows how far two boards may be from each other. Raises as
    `open_session` does.
    """
    return _opened({TFLITE: _TFLiteReference}, TFLITE, graph, 1)


def _opened(
    openers: dict[str, Callable[[bytes, int], Session]], runtime: str, graph: bytes, threads: int
) -> Session:
    if runtime not in openers:
        raise RuntimeUnavailableError(
            f"unknown runtime '{runtime}'; expected one of {', '.join(RUNTIMES)}"
        )
    if runtime not in available_runtimes():
        raise RuntimeUnavailableError(
            f"the {runtime} runtime is not installed: pip install {_INSTALL[runtime]}"
        )
    try:
        return openers[runtime](graph, threads)
    except RuntimeUnavailableError:
        raise
    except Exception as error:  # each runtime raises types of its own for a bad graph
        raise BundleError(f"the {runtime} runtime refuses the graph: {error}") from error


def graph_input(runtime: str, graph: bytes) -> tuple[int | None, ...]:
    """The shape that a graph's one input takes; None where any size will do.

    Raises as `open_session` does.
    """
    session = open_session(runtime, graph)
    return session.input_shape if isinstance(session, _TFLite | _Onnx) else ()


class _TFLite:
    """LiteRT, or tflite-runtime where only that is installed. Fixed batch of one.

    A graph with int8 input or output is called in float32 all the same: the numbers are rounded
    and widened here, by the scale and zero point that the graph names.
    """

    _kernels = "AUTO"

    def __init__(self, graph: bytes, threads: int) -> None:
        name = "ai_edge_litert" if _installed("ai_edge_litert") else "tflite_runtime"
        interpreter: Any = importlib.import_module(f"{name}.interpreter")
        kernels = getattr(interpreter.OpResolverType, self._kernels)
        self._interpreter = interpreter.Interpreter(
            model_content=graph, num_threads=threads, experimental_op_resolver_type=kernels
        )
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        for end in (self._input, self._output):
            if end["dtype"] is np.int8 and end["quantization"][0] > 0:
                continue
            if end["dtype"] is not np.float32:
                raise BundleError("expected a graph with float32 or int8 input and output")

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Sizes of the input; None for any."""
        return tuple(int(size) for size in self._input["shape"])

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._input["dtype"] is np.int8:
            scale, zero = self._input["quantization"]
            rounded = np.round(batch / np.float32(scale)) + zero
            given: NDArray[Any] = np.clip(rounded, -128, 127).astype(np.int8)
        else:
            given = batch
        rows = []
        for sample in given:
            self._interpreter.set_tensor(self._input["index"], sample[None])
            self._interpreter.invoke()
            rows.append(self._interpreter.get_tensor(self._output["index"])[0])
        taken = np.stack(rows).astype(np.float32, copy=False)
        if self._output["dtype"] is np.int8:
            scale, zero = self._output["quantization"]
            return (taken - np.float32(zero)) * np.float32(scale)
        return taken


class _TFLiteReference(_TFLite):
    """The same on the runtime's reference kernels."""

    _kernels = "BUILTIN_REF"


class _Onnx:
    """ONNX Runtime on the CPU. A graph of a fixed batch is called as often as it takes."""

    def __init__(self, graph: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        entries = self._session.get_inputs()
        if len(entries) != 1 or entries[0].type != "tensor(float)":
            raise BundleError("expected a graph with one float32 input")
        self._input = entries[0].name
        self.input_shape = tuple(s if isinstance(s, int) else None for s in entries[0].shape)
        # The size of a fixed batch is a number, that of any batch a name.
        first = self.input_shape[0] if self.input_shape else None
        self._one_by_one = first is not None
        if first not in (None, 1):
            raise BundleError(f"expected a graph for one crop or any number, found {first}")

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._one_by_one:
            return self._call(batch)
        return np.concatenate([self._call(batch[i : i + 1]) for i in range(len(batch))])

    def _call(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self._session.run(None, {self._input: batch})[0], np.float32)
