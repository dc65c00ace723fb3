"""Batch normalisation folded into the convolution before it, for any network of the families.

In evaluation mode a convolution w * x followed by a normalisation is one convolution: with
s = gamma / sqrt(variance + epsilon), its weights are s w and its bias beta - s mean.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from limen.train.networks.blocks import FadingReLU


def folded(network: nn.Module) -> nn.Module:
    """A copy of `network` that gives what it gives in evaluation mode, from fewer layers.

    Every normalisation is folded and leaves an identity behind; every fading ReLU becomes a plain
    one, whatever its fade. Nothing in it is trained. `network` is not changed.
    """
    plain = copy.deepcopy(network)
    if isinstance(getattr(plain, "simulation", None), nn.Module):
        plain.simulation = None  # type: ignore[assignment]  # of int8; it has no part in the float network
    for conv_name, norm_name in _pairs(plain):
        conv = plain.get_submodule(conv_name)
        assert isinstance(conv, nn.Conv2d)
        conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
        _replace(plain, norm_name, nn.Identity())
    for name, module in list(plain.named_modules()):
        if isinstance(module, FadingReLU):
            _replace(plain, name, nn.ReLU())
        elif isinstance(module, nn.BatchNorm2d):
            raise TypeError(f"no convolution lies right before the normalisation '{name}'")
    with torch.no_grad():
        plain.load_state_dict({name: t.detach() for name, t in folded_tensors(network).items()})
    return plain.eval().requires_grad_(False)


def folded_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The weights and biases of `folded(network)` by name; gradients flow back to `network`."""
    norm_of = dict(_pairs(network))
    tensors: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        weight, bias = module.weight, module.bias
        if name in norm_of:
            norm = network.get_submodule(norm_of[name])
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            mean = norm.running_mean if bias is None else norm.running_mean - bias
            tensors[f"{name}.weight"] = weight * scale[:, None, None, None]
            tensors[f"{name}.bias"] = norm.bias - mean * scale
        else:
            tensors[f"{name}.weight"] = weight
            if bias is not None:
                tensors[f"{name}.bias"] = bias
    return tensors


def _pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of every convolution and of the normalisation registered right after it."""
    for name, parent in network.named_modules():
        children = list(parent.named_children())
        for (first, conv), (second, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                prefix = f"{name}." if name else ""
                yield f"{prefix}{first}", f"{prefix}{second}"


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
