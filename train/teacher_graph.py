"""The large network that is slimmed: a MobileNetV1 read from an ONNX file such as SFace's.

What is read is the weights of a known stack of layers, one after the other; the file's own wiring
is not followed. So every shape and stride is checked, and another architecture is refused by the
first layer that differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limen.errors import LimenError, RuntimeUnavailableError
from limen.train.networks.blocks import LARGEST_FINAL_MAP_PX, ConvBlock
from limen.train.networks.mobilenet import MobileNetEmbedder

Array = NDArray[np.float32]

DEFAULT_EPSILON = 1e-5  # of ONNX's BatchNormalization
_LAYERS = frozenset({"Conv", "BatchNormalization", "PRelu", "Gemm", "MatMul", "Relu", "Clip"})


class SlimmingError(LimenError, ValueError):
    """A network cannot be slimmed, or not to this one."""


@dataclass(frozen=True, slots=True)
class _Norm:
    """A batch normalisation in evaluation mode."""

    gamma: Array
    beta: Array
    mean: Array
    variance: Array
    epsilon: float

    @property
    def scale(self) -> Tensor:
        """s of y = s * x + t, per channel."""
        return torch.from_numpy(self.gamma / np.sqrt(self.variance + np.float32(self.epsilon)))

    @property
    def shift(self) -> Tensor:
        """t of y = s * x + t, per channel."""
        return torch.from_numpy(self.beta) - torch.from_numpy(self.mean) * self.scale


class _Graph:
    """The layers of a sequential graph, taken in order. SlimmingError where they are others."""

    def __init__(self, path: Path) -> None:
        try:
            import onnx
            from onnx import numpy_helper
        except ImportError as error:
            raise RuntimeUnavailableError(
                "slimming needs onnx, which is not installed: pip install 'limen[export]'"
            ) from error
        self._name = path.name
        try:
            graph = onnx.load(str(path)).graph
            self._values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
            for node in graph.node:
                if node.op_type == "Constant" and node.attribute[0].name == "value":
                    self._values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        except OSError as error:
            raise SlimmingError(
                f"{path}: cannot be read ({error.strerror or error}); check the path"
            ) from error
        except Exception as error:  # protobuf and onnx raise whatever a damaged file provokes
            raise SlimmingError(
                f"{path}: expected an ONNX file, found one that cannot be read as such "
                f"({type(error).__name__})"
            ) from error
        self._nodes = [node for node in graph.node if node.op_type in _LAYERS]
        self._position = 0

    def conv(self, expected: nn.Conv2d) -> Array:
        """The next layer's weights, which must be those of a convolution like `expected`."""
        node = self._next("Conv")
        weight = self._input(node, 1)
        self._check_shape(weight, tuple(expected.weight.shape))
        strides = tuple(_attribute(node, "strides", [1, 1]))
        if strides != tuple(expected.stride):
            raise self._foreign(f"a stride of {tuple(expected.stride)}", f"{strides}")
        return weight

    def norm(self, channels: int) -> _Norm:
        """The next layer, a batch normalisation."""
        node = self._next("BatchNormalization")
        values = [self._input(node, index) for index in range(1, 5)]
        for value in values:
            self._check_shape(value, (channels,))
        gamma, beta, mean, variance = values
        epsilon = float(_attribute(node, "epsilon", DEFAULT_EPSILON))
        return _Norm(gamma, beta, mean, variance, epsilon)

    def slopes(self, channels: int) -> Array:
        """The next layer's slopes, (channels,)."""
        slopes = self._input(self._next("PRelu"), 1).reshape(-1)
        if slopes.size == 1:
            slopes = np.repeat(slopes, channels)
        self._check_shape(slopes, (channels,))
        return slopes

    def dense(self, inputs: int) -> tuple[Array, Array]:
        """The next layer's weights, (outputs, inputs), and bias, (outputs,)."""
        node = self._next("Gemm")
        weight = self._input(node, 1)
        if weight.ndim != 2 or weight.shape[1] != inputs:
            raise self._foreign(f"a dense layer of {inputs} inputs", f"one of shape {weight.shape}")
        bias = self._input(node, 2) if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        self._check_shape(bias.reshape(-1), (len(weight),))
        return weight, bias.reshape(-1)

    def end(self) -> None:
        """SlimmingError where layers are left."""
        if self._position < len(self._nodes):
            raise self._foreign("the end of the graph", self._nodes[self._position].op_type)

    def _next(self, op_type: str) -> Any:
        at_end = self._position == len(self._nodes)
        node = None if at_end else self._nodes[self._position]
        if node is None or node.op_type != op_type:
            raise self._foreign(op_type, "the end of the graph" if node is None else node.op_type)
        self._position += 1
        return node

    def _input(self, node: Any, index: int) -> Array:
        name = node.input[index] if index < len(node.input) else ""
        if name not in self._values:
            raise self._foreign(f"{node.op_type} with constant weights", f"input {index} without")
        return np.array(self._values[name], np.float32)

    def _check_shape(self, found: Array, expected: tuple[int, ...]) -> None:
        if found.shape != expected:
            raise self._foreign(f"weights of shape {expected}", f"{found.shape}")

    def _foreign(self, expected: str, found: str) -> SlimmingError:
        return SlimmingError(
            f"{self._name}: layer {self._position}: expected {expected}, found {found}: only a "
            "plain MobileNetV1 of width 1.0 for 112 px (convolution, batch normalisation, PReLU; "
            "one dense layer), such as OpenCV Zoo's SFace, can be slimmed"
        )


def _attribute(node: Any, name: str, default: Any) -> Any:
    import onnx

    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


class Teacher(nn.Module):
    """SFace's network in torch: (N, 3, 112, 112) scaled (x - 127.5) / 128, RGB -> (N, D).

    D is `embedding_size`, 128 for SFace. SlimmingError where `path` is another network, or none.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = _Graph(path)
        body = MobileNetEmbedder(width=1.0)
        _load_block(body.stem, graph)
        for depthwise, pointwise in body.blocks():
            _load_block(depthwise, graph)
            _load_block(pointwise, graph)
        channels, side = body.channels[-1], LARGEST_FINAL_MAP_PX
        last_map = graph.norm(channels)
        dense, bias = graph.dense(channels * side * side)
        output = graph.norm(len(dense))
        graph.end()
        kernel = torch.from_numpy(dense).view(len(dense), channels, side, side)
        # The normalisations on both sides of the dense layer are folded into it.
        bias_total = torch.from_numpy(bias) + torch.einsum("ochw,c->o", kernel, last_map.shift)
        self.kernel = output.scale[:, None, None, None] * (
            kernel * last_map.scale[None, :, None, None]
        )
        self.bias = output.scale * bias_total + output.shift
        self.embedding_size = len(dense)
        self.body = body.eval()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,ochw->no", self.body.features(x), self.kernel) + self.bias


def _load_block(block: ConvBlock, graph: _Graph) -> None:
    channels = block.conv.out_channels
    weight = graph.conv(block.conv)
    norm = graph.norm(channels)
    slopes = graph.slopes(channels)
    assert block.norm.running_mean is not None
    assert block.norm.running_var is not None
    block.norm.eps = norm.epsilon
    with torch.no_grad():
        block.conv.weight.copy_(torch.from_numpy(weight))
        block.norm.weight.copy_(torch.from_numpy(norm.gamma))
        block.norm.bias.copy_(torch.from_numpy(norm.beta))
        block.norm.running_mean.copy_(torch.from_numpy(norm.mean))
        block.norm.running_var.copy_(torch.from_numpy(norm.variance))
        block.activation.slope.copy_(torch.from_numpy(slopes))
        block.activation.set_fade(1.0)
