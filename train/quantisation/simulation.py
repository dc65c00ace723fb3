"""A network as its int8 graphs will compute it, so that training can answer for their rounding."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from limen.train.networks.folding import folded_tensors
from limen.train.quantisation.arithmetic import quantised_weights
from limen.train.quantisation.points import PointedNetwork

# A pixel is (p - 127.5) / 128, half a step off every step of 1 / 128: each would be a tie, and ties
# to even merge pixels in pairs. Steps of 1 / 127.5 keep all apart but the middle two. The range's
# ends are whole steps, so that every quantiser finds the same zero point, 0.
INPUT_RANGE = (-128 / 127.5, 127 / 127.5)

# A range moves by this times the learning rate, relative to itself. Adam's steps are as long as
# the learning rate, which is set for weights and would hardly move a range.
RANGE_RATE = 20.0


class Int8Simulation(nn.Module):
    """The ranges of a network's int8 activations, and its forward pass by int8 arithmetic.

    The first is the input's, INPUT_RANGE. Every other is `observed`, (points - 1, 2), times
    exp(RANGE_RATE * `change`); only `change` is trained.
    Learning its logarithm keeps a range's signs and steps by its own size (TQT, Jain et al.,
    arXiv:1903.08066, section 3.2); one that begins at 0, as behind a ReLU, stays so. Weight decay
    pulls ranges to what was observed.

    Normalisations are folded with their running statistics, which stay as they are: the phase in
    which they move is the float training before (Krishnamoorthi, arXiv:1806.08342, section 3.2.2).
    """

    observed: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        pointed = PointedNetwork(network)
        self.names = tuple(pointed.points)
        self.register_buffer("observed", torch.zeros(len(self.names) - 1, 2))
        self.change = nn.Parameter(torch.zeros(len(self.names) - 1, 2))
        self.is_active = False
        self.learns = True
        # In a tuple, so that it is no submodule: its weights are the network's, folded.
        self._pointed = (pointed,)

    @property
    def is_set(self) -> bool:
        """Whether ranges have been observed."""
        return bool(self.observed.any())

    def bounds(self) -> Tensor:
        """The ranges, (points, 2): low and high of each."""
        change = self.change if self.learns else self.change.detach()
        learnt = self.observed * torch.exp(RANGE_RATE * change)
        return torch.cat([learnt.new_tensor([INPUT_RANGE]), learnt])

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Low and high by the point's name."""
        rows = self.bounds().detach().tolist()
        return {name: (low, high) for name, (low, high) in zip(self.names, rows, strict=True)}

    def without_effect(self) -> Tensor:
        """A 0 that `change` has a part in.

        Where several processes share a run, every weight must have a gradient at each step, be it
        0 (DistributedDataParallel), so also while ranges are not used or not learnt.
        """
        return 0.0 * self.change.sum()

    def forward(self, network: nn.Module, x: Tensor) -> Tensor:
        """(N, 3, px, px) -> (N, D), rounded as the int8 graphs of `network` round."""
        (pointed,) = self._pointed
        bounds = self.bounds()
        tensors = dict(zip(pointed.bounds_paths, bounds, strict=True))
        for name, tensor in folded_tensors(network).items():
            is_weight = name.endswith(".weight")
            tensors[f"body.{name}"] = quantised_weights(tensor) if is_weight else tensor
        found: Tensor = functional_call(pointed, tensors, (x,))
        return found

    @torch.no_grad()
    def values(self, network: nn.Module, x: Tensor) -> dict[str, Tensor]:
        """What passes each point while nothing is rounded, by the point's name."""
        (pointed,) = self._pointed
        seen: dict[str, Tensor] = {}

        def keep(name: str) -> None:
            def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
                seen[name] = output

            hooks.append(point.register_forward_hook(hook))

        hooks: list[torch.utils.hooks.RemovableHandle] = []
        for name, point in pointed.points.items():
            point.open = True
            keep(name)
        try:
            tensors = {f"body.{name}": t for name, t in folded_tensors(network).items()}
            functional_call(pointed, tensors, (x,))
        finally:
            for point, hook in zip(pointed.points.values(), hooks, strict=True):
                point.open = False
                hook.remove()
        return seen

    @torch.no_grad()
    def observe(self, network: nn.Module, batches: Iterable[Tensor]) -> None:
        """Take the ranges from float activations: the mean of the extremes of each batch."""
        extremes = []
        for batch in batches:
            seen = self.values(network, batch)
            extremes.append(
                torch.stack([torch.stack([seen[n].min(), seen[n].max()]) for n in self.names[1:]])
            )
        low, high = torch.stack(extremes).mean(0).unbind(1)
        self.observed.copy_(torch.stack([low.clamp_max(0.0), high.clamp_min(0.0)], 1))
        self.change.zero_()
