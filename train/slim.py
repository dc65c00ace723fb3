"""Warm start: slim a larger MobileNet (an ONNX file such as OpenCV Zoo's SFace) to ours.

Channels are chosen layer by layer by how much the next layer listens to them; every pointwise
convolution is then refitted by least squares, so that the slim network's own inputs reproduce the
teacher's outputs on a few hundred crops (channel pruning with reconstruction: He et al.,
arXiv:1707.06168). The teacher's large dense layer becomes a global depthwise convolution and a
projection by the best separable approximation of each channel's kernel (a rank-1 SVD).

The teacher's PReLU slopes are kept and faded out in training (`FadingReLU`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limen.errors import LimenError
from limen.train.network import BLOCKS, FINAL_MAP_PX, ConvBlock, MobileNetEmbedder

RIDGE = 1e-3  # of the mean variance of a layer's inputs
HEAD_RIDGE = 3e-2
LAYER_CROPS = 256


class SlimmingError(LimenError, ValueError):
    """The teacher's graph is not one that can be slimmed."""


@dataclass(frozen=True, slots=True)
class _Affine:
    """A batch normalisation in evaluation mode: y = scale * x + shift, per channel."""

    scale: Tensor
    shift: Tensor


class _Graph:
    """The initialisers of a sequential convolution, normalisation, PReLU graph, in order."""

    def __init__(self, path: Path) -> None:
        import onnx
        from onnx import numpy_helper

        model = onnx.load(str(path))
        self._values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        self._nodes = [
            n
            for n in model.graph.node
            if n.op_type in {"Conv", "BatchNormalization", "PRelu", "Gemm"}
        ]
        self._path = path
        self._iterator: Iterator[Any] = iter(self._nodes)

    def take(self, op_type: str) -> list[NDArray[np.float32]]:
        node = next(self._iterator, None)
        found = "the end of the graph" if node is None else node.op_type
        if node is None or found != op_type:
            raise SlimmingError(
                f"{self._path.name}: expected {op_type}, found {found}: only a plain MobileNetV1 "
                "(convolution, batch normalisation, PReLU; one dense layer) can be slimmed"
            )
        names = list(node.input)[1:]
        return [np.array(self._values[name], np.float32) for name in names]

    def epsilons(self) -> list[float]:
        return [
            next(a.f for a in n.attribute if a.name == "epsilon")
            for n in self._nodes
            if n.op_type == "BatchNormalization"
        ]


def _load_conv_block(block: ConvBlock, graph: _Graph, epsilon: float) -> None:
    conv, norm, activation = block.conv, block.norm, block.activation
    (weight,) = graph.take("Conv")[:1]
    if tuple(weight.shape) != tuple(conv.weight.shape):
        raise SlimmingError(
            f"expected a convolution of shape {tuple(conv.weight.shape)}, found {weight.shape}"
        )
    gamma, beta, mean, variance = graph.take("BatchNormalization")
    (slope,) = graph.take("PRelu")
    norm.eps = epsilon
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(weight))
        norm.weight.copy_(torch.from_numpy(gamma))
        norm.bias.copy_(torch.from_numpy(beta))
        _mean_of(block).copy_(torch.from_numpy(mean))
        _variance_of(norm).copy_(torch.from_numpy(variance))
        activation.slope.copy_(torch.from_numpy(slope.reshape(-1)))
        activation.set_fade(1.0)


class Teacher(nn.Module):
    """SFace's network in torch: (N, 3, 112, 112) scaled (x - 127.5) / 128, RGB -> (N, 128)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = _Graph(path)
        epsilons = graph.epsilons()
        body = MobileNetEmbedder(width=1.0)
        order = [body.stem]
        for depthwise, pointwise in body.blocks():
            order += [depthwise, pointwise]
        for block, epsilon in zip(order, epsilons, strict=False):
            _load_conv_block(block, graph, epsilon)
        gamma, beta, mean, variance = graph.take("BatchNormalization")
        self.map_affine = _affine(gamma, beta, mean, variance, epsilons[-2])
        dense, bias = graph.take("Gemm")
        gamma, beta, mean, variance = graph.take("BatchNormalization")
        output = _affine(gamma, beta, mean, variance, epsilons[-1])
        kernel = torch.from_numpy(dense).view(dense.shape[0], -1, FINAL_MAP_PX, FINAL_MAP_PX)
        # The normalisations on both sides of the dense layer are folded into it.
        bias_total = torch.from_numpy(bias) + torch.einsum(
            "ochw,c->o", kernel, self.map_affine.shift
        )
        self.kernel = output.scale[:, None, None, None] * (
            kernel * self.map_affine.scale[None, :, None, None]
        )
        self.bias = output.scale * bias_total + output.shift
        self.body = body.eval()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,ochw->no", self.body.features(x), self.kernel) + self.bias


def _affine(
    gamma: NDArray[np.float32],
    beta: NDArray[np.float32],
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    epsilon: float,
) -> _Affine:
    scale = gamma / np.sqrt(variance + epsilon)
    return _Affine(torch.from_numpy(scale), torch.from_numpy(beta - mean * scale))


def _keep(importance: Tensor, count: int) -> Tensor:
    """Indices of the `count` most important channels, in their own order."""
    return importance.topk(count).indices.sort().values


def _copy_channels(target: ConvBlock, source: ConvBlock, kept: Tensor) -> None:
    """Take over a depthwise (or stem) block's kept output channels."""
    with torch.no_grad():
        target.conv.weight.copy_(source.conv.weight[kept])
        _copy_norm(target, source, kept)


def _copy_norm(target: ConvBlock, source: ConvBlock, kept: Tensor) -> None:
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(target.norm, name).copy_(getattr(source.norm, name)[kept])
        target.norm.eps = source.norm.eps
        target.activation.slope.copy_(source.activation.slope[kept])
        target.activation.set_fade(1.0)


def _positions(feature_map: Tensor, rng: np.random.Generator, limit: int) -> Tensor:
    """Indices of at most `limit` positions of an (N, C, H, W) map."""
    total = feature_map.shape[0] * feature_map.shape[2] * feature_map.shape[3]
    chosen = rng.choice(total, size=min(limit, total), replace=False)
    return torch.from_numpy(np.sort(chosen))


def _rows(feature_map: Tensor, positions: Tensor) -> Tensor:
    return feature_map.permute(0, 2, 3, 1).reshape(-1, feature_map.shape[1])[positions]


def _least_squares(inputs: Tensor, targets: Tensor, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
    """Ridge regression with intercept: weight (outputs, inputs) and bias (outputs,)."""
    x, y = inputs.double(), targets.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x / len(x)
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, x.T @ y / len(x)).T
    return weight.float(), (y_mean - weight @ x_mean).float()


@torch.no_grad()
def slim(
    teacher: Teacher,
    student: MobileNetEmbedder,
    crops: Tensor,
    rng: np.random.Generator,
    positions_per_layer: int = 40_000,
) -> None:
    """Set `student`'s weights from `teacher`, in place.

    crops: (N, 3, 112, 112) float32, scaled as the teacher expects; a thousand training crops or
    more, all of which fit the head, the first `LAYER_CROPS` the layers before it.
    """
    student.eval()
    body = teacher.body
    crops, all_crops = crops[:LAYER_CROPS], crops
    kept = _keep(_listening(body, 0), student.channels[0])
    _copy_channels(student.stem, body.stem, kept)
    wanted, ours = body.stem(crops), student.stem(crops)
    for index in range(len(BLOCKS)):
        source_depthwise, source_pointwise = body.blocks()[index]
        depthwise, pointwise = student.blocks()[index]
        _copy_channels(depthwise, source_depthwise, kept)
        wanted, ours = source_depthwise(wanted), depthwise(ours)
        target = source_pointwise.conv(wanted)
        last = index + 1 == len(BLOCKS)
        importance = _dense_listening(teacher) if last else _listening(body, index + 1)
        kept = _keep(importance, student.channels[index + 1])
        positions = _positions(target, rng, positions_per_layer)
        weight, bias = _least_squares(_rows(ours, positions), _rows(target, positions)[:, kept])
        pointwise.conv.weight.copy_(weight[:, :, None, None])
        _copy_norm(pointwise, source_pointwise, kept)
        _mean_of(pointwise).sub_(bias)
        wanted = source_pointwise.activation(source_pointwise.norm(target))
        ours = pointwise(ours)
    _fit_head(teacher, student, all_crops, kept)


def _mean_of(block: ConvBlock) -> Tensor:
    mean = block.norm.running_mean
    assert mean is not None
    return mean


def _variance_of(norm: nn.BatchNorm2d) -> Tensor:
    variance = norm.running_var
    assert variance is not None
    return variance


def _listening(body: MobileNetEmbedder, index: int) -> Tensor:
    """How much block `index` makes of each of its input channels.

    The spread that a channel has after its depthwise convolution and normalisation, times the
    norm of the pointwise weights that read it.
    """
    depthwise, pointwise = body.blocks()[index]
    norm = pointwise.norm
    normalised = norm.weight / (_variance_of(norm) + norm.eps).sqrt()
    reading = (pointwise.conv.weight[:, :, 0, 0] * normalised[:, None]).square().sum(0).sqrt()
    return depthwise.norm.weight.abs() * reading


def _dense_listening(teacher: Teacher) -> Tensor:
    _, last = teacher.body.blocks()[-1]
    return last.norm.weight.abs() * teacher.kernel.square().sum((0, 2, 3)).sqrt()


def _fit_head(teacher: Teacher, student: MobileNetEmbedder, crops: Tensor, kept: Tensor) -> None:
    kernel = teacher.kernel[:, kept].flatten(2).permute(1, 0, 2)  # channels, outputs, positions
    _, _, right = torch.linalg.svd(kernel, full_matrices=False)
    depthwise = right[:, 0].view(-1, 1, FINAL_MAP_PX, FINAL_MAP_PX)
    student.global_depthwise.weight.copy_(depthwise)
    chunks = torch.split(crops, 128)
    pooled = torch.cat([student.global_depthwise(student.features(c)).flatten(1) for c in chunks])
    pooled_norm = student.global_norm
    assert pooled_norm.running_mean is not None
    pooled_norm.running_mean.copy_(pooled.mean(0))
    _variance_of(pooled_norm).copy_(pooled.var(0))
    pooled = student.global_norm(pooled[:, :, None, None]).flatten(1)
    weight, bias = _least_squares(pooled, torch.cat([teacher(c) for c in chunks]), HEAD_RIDGE)
    student.projection.weight.copy_(weight[:, :, None, None])
    assert student.projection.bias is not None
    student.projection.bias.copy_(bias)
