"""A network of somebody else's, as small as it can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from limen.export.pack import Preprocessing

RAW = Preprocessing(mean=0.0, divisor=1.0, colour="BGR")


def foreign(
    path: Path, width: int = 32, batch: int | str = 1, domain: str = "", size: int = 16
) -> Path:
    """A small convolutional network that takes raw BGR, as SFace does, written with onnx."""
    rng = np.random.default_rng(3)
    weights = [
        ("scale", np.float32(1 / 128)),
        ("mean", np.float32(127.5)),
        ("conv", rng.normal(0, 0.3, (8, 3, 5, 5)).astype(np.float32)),
        ("slope", np.full((8, 1, 1), 0.2, np.float32)),
        ("dense", rng.normal(0, 0.05, (8 * 8 * (width // 4), size)).astype(np.float32)),
    ]
    nodes = [
        helper.make_node("Sub", ["data", "mean"], ["centred"], "sub"),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"], "mul"),
        helper.make_node(
            "Conv", ["scaled", "conv"], ["c"], "conv1", strides=[4, 4], pads=[2, 2, 2, 2]
        ),
        helper.make_node("PRelu", ["c", "slope"], ["r"], "prelu", domain=domain),
        helper.make_node("Flatten", ["r"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "dense"], ["fc1"], "matmul"),
    ]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, 3, 32, width])],
        [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [batch, size])],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path
