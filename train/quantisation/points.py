"""Where an int8 runtime rounds: behind each convolution with its activation, and a few others."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from limen.train.networks.blocks import ConvNorm, InvertedResidual, SqueezeExcite
from limen.train.networks.folding import folded
from limen.train.quantisation.arithmetic import quantised_activations

BOUNDS = "bounds"


class QuantisationPoint(nn.Module):
    """Rounds what passes to int8 within `bounds`, (2,); lets it pass untouched while `open`."""

    bounds: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(BOUNDS, torch.zeros(2))
        self.open = False

    def forward(self, x: Tensor) -> Tensor:
        return x if self.open else quantised_activations(x, self.bounds)


class PointedNetwork(nn.Module):
    """A folded copy of a network with a point wherever an int8 runtime rounds to a tensor.

    Convolution, bias and ReLU are one operation there, so the point is behind the ReLU. `points`
    are their names: those of the modules of the network behind which they lie, 'input' and
    'output'.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.input = QuantisationPoint()
        self.body = folded(network)
        self.output = QuantisationPoint()
        inner = {}
        for name in list(_rounded(self.body)):
            point = QuantisationPoint()
            _put_behind(self.body, name, point)
            inner[name] = point
        self._by_name = {"input": self.input, **inner, "output": self.output}
        paths = {module: path for path, module in self.named_modules()}
        self.bounds_paths = [f"{paths[point]}.{BOUNDS}" for point in self._by_name.values()]

    @property
    def points(self) -> dict[str, QuantisationPoint]:
        """The points by name, always in the same order."""
        return self._by_name

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.output(self.body(self.input(x)))
        return found


def _rounded(body: nn.Module) -> Iterator[str]:
    """Names of the modules without weights whose outputs are rounded."""
    for name, module in body.named_modules():
        if isinstance(module, ConvNorm):
            yield f"{name}.{len(module) - 1}"
        elif isinstance(module, SqueezeExcite):
            for part in ("pool", "reduce_activation", "gate", "product"):
                yield f"{name}.{part}"
        elif isinstance(module, InvertedResidual) and module.adds_input:
            yield f"{name}.sum"
    yield "global_norm"


def _put_behind(body: nn.Module, name: str, point: QuantisationPoint) -> None:
    module = body.get_submodule(name)
    assert not list(module.parameters()), f"'{name}' would lose the names of its weights"
    parent, _, child = name.rpartition(".")
    setattr(body.get_submodule(parent), child, nn.Sequential(module, point))
