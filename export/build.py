"""From a folded network to the graphs that a recipe asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limen.export.graphs import BuiltGraph
from limen.export.learnt_ranges import LearntRanges
from limen.export.recipe import ExportRecipe

Say = Callable[[str], None]


def build_graphs(
    folded: Any,
    crops: NDArray[np.uint8],
    input_px: int,
    recipe: ExportRecipe,
    report: Say,
    learnt: LearntRanges | None = None,
) -> tuple[list[BuiltGraph], dict[str, bytes]]:
    """The recipe's graphs of a folded network, and the float32 graph that each runtime's come from.

    crops: (n, px, px, 3) uint8, from which int8 takes its ranges, unless they are `learnt` ones.
    """
    from limen.export import onnx_graphs, tflite_graphs

    wanted, floats, built = recipe.graphs, {}, []
    if any(kind.startswith("onnx") for kind in wanted):
        report("converting to ONNX")
        floats["onnx"] = onnx_graphs.float32_onnx(folded, input_px)
    if any(kind.startswith("tflite") for kind in wanted):
        report("converting to TFLite")
        floats["tflite"] = tflite_graphs.float32_tflite(folded, input_px)
    calibration, keep = recipe.calibration, recipe.keep_float
    for kind in wanted:
        report(f"making {kind}")
        onnx, tflite = floats.get("onnx", b""), floats.get("tflite", b"")
        if kind == "onnx-float32":
            built.append(BuiltGraph("embedder.float32.onnx", "onnx", "float32", onnx))
        elif kind == "onnx-float32-batch1":
            single = onnx_graphs.batch_of_1(onnx)
            built.append(BuiltGraph("embedder.float32.batch1.onnx", "onnx", "float32", single, 1))
        elif kind == "onnx-float16":
            half = onnx_graphs.float16_onnx(onnx)
            built.append(BuiltGraph("embedder.float16.onnx", "onnx", "float16", half))
        elif kind == "onnx-int8":
            small = onnx_graphs.int8_onnx(onnx, crops, calibration, keep.onnx, learnt=learnt)
            built.append(BuiltGraph("embedder.int8.onnx", "onnx", "int8", small))
        elif kind == "tflite-float32":
            built.append(BuiltGraph("embedder.float32.tflite", "tflite", "float32", tflite, 1))
        elif kind == "tflite-float16":
            half = tflite_graphs.float16_tflite(tflite)
            built.append(BuiltGraph("embedder.float16.tflite", "tflite", "float16", half, 1))
        else:
            io: Literal["float32", "int8"] = "int8" if kind == "tflite-int8-io" else "float32"
            small = tflite_graphs.int8_tflite(
                tflite, crops, calibration, keep.tflite, io, learnt=learnt
            )
            path = "embedder.int8.tflite" if io == "float32" else "embedder.int8.int8-io.tflite"
            built.append(BuiltGraph(path, "tflite", "int8", small, 1, io))
    return built, floats
