"""The network as it ships: plain convolutions and ReLU, batch normalisation folded away."""

from __future__ import annotations

from torch import nn

from limen.export.errors import ExportError
from limen.train.networks.blocks import FadingReLU
from limen.train.networks.folding import folded


def fold(network: nn.Module) -> nn.Module:
    """Return a network that gives what `network` gives in evaluation mode, from fewer layers.

    (N, 3, H, W) float32, scaled -> (N, D) float32, not normalised. `network`, of any family, is
    not changed. ExportError where a warm start's slopes have not faded out yet, since a graph of
    plain ReLU would be another network, and where `network` is in training mode.
    """
    if any(module.training for module in network.modules()):
        raise ExportError("expected a network in evaluation mode, found one in training mode")
    _check_plain(network)
    return folded(network)


def _check_plain(network: nn.Module) -> None:
    fading = [
        float(module.fade)
        for module in network.modules()
        if isinstance(module, FadingReLU) and float(module.fade) != 0.0 and bool(module.slope.any())
    ]
    if fading:
        raise ExportError(
            f"expected plain ReLU activations, found {len(fading)} whose PReLU slopes are faded "
            f"only to {max(fading):.2f}: train on until the recipe's fade_steps are over, then "
            "export"
        )
