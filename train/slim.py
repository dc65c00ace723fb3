"""Warm start: slim a larger MobileNet (an ONNX file such as OpenCV Zoo's SFace) to ours.

Channels are chosen layer by layer by how much the next layer listens to them; every pointwise
convolution is then refitted by least squares, so that the slim network's own inputs reproduce the
teacher's outputs on a few hundred crops (channel pruning with reconstruction: He et al.,
arXiv:1707.06168). The teacher's large dense layer becomes a global depthwise convolution and a
projection by the best approximation of each channel's kernel with `head_filters` filters (an SVD
of that rank), and the projection is refitted by least squares.

The teacher's PReLU slopes are kept and faded out in training (`FadingReLU`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from limen.train.networks.blocks import LARGEST_FINAL_MAP_PX, ConvBlock
from limen.train.networks.embedder import INPUT_PX, EmbedderNetwork
from limen.train.networks.mobilenet import BLOCKS, MobileNetEmbedder
from limen.train.teacher_graph import SlimmingError, Teacher

RIDGE = 1e-3  # of the mean variance of a layer's inputs
HEAD_RIDGE = 3e-1
LAYER_CROPS = 256


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


def check_student(teacher: Teacher, student: EmbedderNetwork) -> MobileNetEmbedder:
    """`student` itself. SlimmingError unless `teacher` can be slimmed to it; says what to change."""
    if not isinstance(student, MobileNetEmbedder):
        raise SlimmingError(
            f"expected the family 'mobilenet', found '{student.family}': only that one has the "
            "layers of the network to be slimmed; set model.family, or train without --slim-from"
        )
    if student.input_px != INPUT_PX:
        raise SlimmingError(
            f"expected input_px = {INPUT_PX}, for which the network to be slimmed was made, "
            f"found {student.input_px}"
        )
    if student.embedding_size != teacher.embedding_size:
        raise SlimmingError(
            f"expected model.embedding_size = {teacher.embedding_size}, as the network to be "
            f"slimmed has, found {student.embedding_size}"
        )
    for ours, theirs in zip(student.channels, teacher.body.channels, strict=True):
        if ours > theirs:
            raise SlimmingError(
                f"expected layers no wider than those of the network to be slimmed, found {ours} "
                f"channels where it has {theirs}: set model.width to 1 or less"
            )
    return student


@torch.no_grad()
def slim(
    teacher: Teacher,
    student: EmbedderNetwork,
    crops: Tensor,
    rng: np.random.Generator,
    positions_per_layer: int = 40_000,
) -> None:
    """Set `student`'s weights from `teacher`, in place.

    crops: (N, 3, 112, 112) float32, scaled as the teacher expects; a thousand training crops or
    more, all of which fit the head, the first `LAYER_CROPS` the layers before it.
    SlimmingError where `student` is no network that `teacher` can be slimmed to.
    """
    student = check_student(teacher, student)
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
    side = LARGEST_FINAL_MAP_PX
    depthwise = right[:, : student.head_filters].reshape(-1, 1, side, side)
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
