"""The network as it ships: plain convolutions and ReLU, batch normalisation folded away."""

from __future__ import annotations

import copy
from typing import cast

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from limen.export.errors import ExportError
from limen.train.network import ConvBlock, FadingReLU, MobileNetEmbedder


def fold(network: MobileNetEmbedder) -> nn.Sequential:
    """Return a network that gives what `network` gives in evaluation mode, from fewer layers.

    (N, 3, H, W) float32, scaled -> (N, D) float32, not normalised. `network` is not changed.
    ExportError where a warm start's slopes have not faded out yet: a graph of plain ReLU would
    be another network.
    """
    _check_plain(network)
    layers: list[nn.Module] = _folded_block(network.stem)
    for depthwise, pointwise in zip(network.depthwise, network.pointwise, strict=True):
        layers += _folded_block(cast(ConvBlock, depthwise))
        layers += _folded_block(cast(ConvBlock, pointwise))
    layers.append(_folded(network.global_depthwise, network.global_norm))
    layers += [copy.deepcopy(network.projection), nn.Flatten()]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def _check_plain(network: MobileNetEmbedder) -> None:
    fading = []
    for module in network.modules():
        if isinstance(module, FadingReLU):
            buffers = dict(module.named_buffers())
            fade = float(buffers["fade"])
            if fade != 0.0 and bool(buffers["slope"].any()):
                fading.append(fade)
    if fading:
        raise ExportError(
            f"expected plain ReLU activations, found {len(fading)} whose PReLU slopes are faded "
            f"only to {max(fading):.2f}: train on until the recipe's fade_steps are over, then "
            "export"
        )


def _folded_block(block: ConvBlock) -> list[nn.Module]:
    convolution, norm = cast(nn.Conv2d, block[0]), cast(nn.BatchNorm2d, block[1])
    return [_folded(convolution, norm), nn.ReLU()]


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    if convolution.training or norm.training:
        raise ExportError("expected a network in evaluation mode, found one in training mode")
    return fuse_conv_bn_eval(convolution, norm)
