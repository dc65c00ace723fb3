"""The families behind one name each, and what a network of them costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from limen.train.networks.embedder import INPUT_PX, EmbedderNetwork
from limen.train.networks.mobilefacenet import MobileFaceNetEmbedder
from limen.train.networks.mobilenet import MobileNetEmbedder
from limen.train.networks.mobilenetv2 import MobileNetV2Embedder
from limen.train.networks.mobilenetv3 import MobileNetV3Embedder

if TYPE_CHECKING:
    from limen.train.recipe import Model

Family = (
    type[MobileNetEmbedder]
    | type[MobileFaceNetEmbedder]
    | type[MobileNetV2Embedder]
    | type[MobileNetV3Embedder]
)

FAMILIES: dict[str, Family] = {
    MobileNetEmbedder.family: MobileNetEmbedder,
    MobileFaceNetEmbedder.family: MobileFaceNetEmbedder,
    MobileNetV2Embedder.family: MobileNetV2Embedder,
    MobileNetV3Embedder.family: MobileNetV3Embedder,
}


def build_network(
    model: Model, input_px: int = INPUT_PX, channels: Sequence[int] | None = None
) -> EmbedderNetwork:
    """A network of `model`'s family and width with random weights, in training mode.

    input_px: the side of its pictures; strides and head are made for it. channels: every layer's
    width in place of the model's, as a checkpoint keeps them; ValueError where their number is not
    the family's.
    """
    return FAMILIES[model.family](
        model.width, model.embedding_size, channels, input_px, model.head_filters
    )


def count_parameters(network: nn.Module) -> int:
    """Trained parameters, batch normalisation included."""
    return sum(p.numel() for p in network.parameters())


def count_multiply_adds(network: nn.Module, input_px: int = INPUT_PX) -> int:
    """Multiply-accumulates of one crop through all convolutions."""
    total = 0

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        kernel = module.kernel_size[0] * module.kernel_size[1]
        total += output[0].numel() * kernel * module.in_channels // module.groups

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, input_px, input_px))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
