"""What flows through a graph: the tensors between its operators, crop by crop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.scaling import SCALING


def tflite_activations(
    graph: bytes, crops: NDArray[np.uint8], names: Sequence[str]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """For each crop, the named tensors as float32; int8 ones through their scale and zero point.

    crops: (n, px, px, 3) uint8 RGB. Names that the graph does not have are left out.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(
        model_content=graph, num_threads=1, experimental_preserve_all_tensors=True
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    wanted = set(names)
    details = [d for d in interpreter.get_tensor_details() if d["name"] in wanted]
    for crop in crops:
        scaled = SCALING.apply(crop)[None]
        interpreter.set_tensor(entry["index"], _as_stored(scaled, entry))
        interpreter.invoke()
        yield {d["name"]: _as_float(interpreter.get_tensor(d["index"]), d) for d in details}


def _as_stored(values: NDArray[np.float32], detail: dict[str, Any]) -> NDArray[Any]:
    if detail["dtype"] is not np.int8:
        return values
    scale, zero = detail["quantization"]
    return np.asarray(np.clip(np.round(values / scale) + zero, -128, 127), np.int8)


def _as_float(values: NDArray[Any], detail: dict[str, Any]) -> NDArray[np.float32]:
    scale, zero = detail["quantization"]
    if detail["dtype"] is np.int8 and scale > 0:
        return (values.astype(np.float32) - np.float32(zero)) * np.float32(scale)
    return values.astype(np.float32)
