"""A face finder's graphs: each gives all cells' answers, and int8 stops before they are joined.

Scores, boxes and landmarks have scales of their own. Joined in int8 they would share one, and a
landmark's hundredth of a pixel would be rounded to the steps of the largest logit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limen.export.graphs import BuiltGraph
from limen.export.onnx_graphs import batch_of_1, float16_onnx, float32_onnx, int8_onnx
from limen.export.recipe import Calibration, FinderExport, GraphKind
from limen.export.tflite_graphs import float16_tflite, float32_tflite, int8_tflite

if TYPE_CHECKING:
    from torch import nn

    from limen.train.finder.network import FinderNetwork

JOINING_ONNX = ("Concat", "Reshape", "Transpose")
JOINING_TFLITE = ("CONCATENATION", "RESHAPE", "TRANSPOSE")


# A finder's largest logits are its faces: a percentile would cut them off.
RANGES = Calibration(onnx="moving-average", tflite="moving-average")


def fold_finder(network: FinderNetwork) -> nn.Module:
    """(N, 3, H, W) float32, scaled -> (N, M, 15), normalisation folded. `network` is not changed."""
    from torch import Tensor, nn

    from limen.train.finder.network import answers
    from limen.train.networks.folding import folded

    class Joined(nn.Module):
        """The network and the joining of its maps."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return answers(self.inner(x))

    return Joined(folded(copy.deepcopy(network))).eval()


def build_finder_graphs(
    network: FinderNetwork,
    pictures: NDArray[np.uint8],
    report: Callable[[str], None] = lambda _: None,
    kinds: Sequence[GraphKind] = FinderExport().graphs,
) -> list[BuiltGraph]:
    """The graphs that a recipe asks for, by its words.

    pictures: (n, H, W, 3) uint8 RGB, of the size that the graphs take; int8 ranges come from them.
    A graph with int8 output joins in int8, and pays for it (docs/finder.md).
    """
    joined = fold_finder(network)
    size = (pictures.shape[1], pictures.shape[2])
    onnx = tflite = b""
    if any(kind.startswith("onnx") for kind in kinds):
        report("converting the finder to ONNX")
        onnx = float32_onnx(joined, size)
    if any(kind.startswith("tflite") for kind in kinds):
        report("converting the finder to TFLite")
        tflite = float32_tflite(joined, size)
    built = []
    for kind in kinds:
        report(f"making the finder's {kind}")
        if kind == "onnx-float32":
            built.append(BuiltGraph("finder.float32.onnx", "onnx", "float32", onnx))
        elif kind == "onnx-float32-batch1":
            single = batch_of_1(onnx)
            built.append(BuiltGraph("finder.float32.batch1.onnx", "onnx", "float32", single, 1))
        elif kind == "onnx-float16":
            half = float16_onnx(onnx)
            built.append(BuiltGraph("finder.float16.onnx", "onnx", "float16", half))
        elif kind == "onnx-int8":
            small = int8_onnx(onnx, pictures, RANGES, float_operations=JOINING_ONNX)
            built.append(BuiltGraph("finder.int8.onnx", "onnx", "int8", small))
        elif kind == "tflite-float32":
            built.append(BuiltGraph("finder.float32.tflite", "tflite", "float32", tflite, 1))
        elif kind == "tflite-float16":
            half = float16_tflite(tflite)
            built.append(BuiltGraph("finder.float16.tflite", "tflite", "float16", half, 1))
        elif kind == "tflite-int8":
            small = int8_tflite(tflite, pictures, RANGES, float_operations=JOINING_TFLITE)
            built.append(BuiltGraph("finder.int8.tflite", "tflite", "int8", small, 1))
        else:
            small = int8_tflite(tflite, pictures, RANGES, io="int8")
            path = "finder.int8.int8-io.tflite"
            built.append(BuiltGraph(path, "tflite", "int8", small, 1, "int8"))
    return built
