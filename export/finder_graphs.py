"""A face finder's graphs: each gives all cells' answers, and int8 stops before they are joined.

Scores, boxes and landmarks have scales of their own. Joined in int8 they would share one, and a
landmark's hundredth of a pixel would be rounded to the steps of the largest logit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limen.export.graphs import BuiltGraph
from limen.export.onnx_graphs import float32_onnx, int8_onnx
from limen.export.tflite_graphs import float16_tflite, float32_tflite, int8_tflite

if TYPE_CHECKING:
    from torch import nn

    from limen.train.finder.network import FinderNetwork

JOINING_ONNX = ("Concat", "Reshape", "Transpose")
JOINING_TFLITE = ("CONCATENATION", "RESHAPE", "TRANSPOSE")


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
) -> list[BuiltGraph]:
    """ONNX float32 and int8, TFLite float32, float16 and int8.

    pictures: (n, H, W, 3) uint8 RGB, of the size that the graphs take; int8 ranges come from them.
    """
    joined = fold_finder(network)
    size = (pictures.shape[1], pictures.shape[2])
    report("converting the finder to ONNX, float32 and int8")
    onnx = float32_onnx(joined, size)
    onnx_int8 = int8_onnx(onnx, pictures, float_operations=JOINING_ONNX)
    report("converting the finder to TFLite, float32, float16 and int8")
    tflite = float32_tflite(joined, size)
    tflite_int8 = int8_tflite(tflite, pictures, float_operations=JOINING_TFLITE)
    return [
        BuiltGraph("finder.float32.onnx", "onnx", "float32", onnx),
        BuiltGraph("finder.int8.onnx", "onnx", "int8", onnx_int8),
        BuiltGraph("finder.float32.tflite", "tflite", "float32", tflite),
        BuiltGraph("finder.float16.tflite", "tflite", "float16", float16_tflite(tflite)),
        BuiltGraph("finder.int8.tflite", "tflite", "int8", tflite_int8),
    ]
