"""Batch normalisation by the statistics of the whole batch, of which each process holds a part.

torch's own SyncBatchNorm runs on GPUs only. Without one or the other, each process would normalise
by its part alone, and a run split over processes would be another run.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limen.train.collectives import SumBoth


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d over all processes in training mode; in evaluation mode, itself."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        count = torch.distributed.get_world_size() * x.numel() // x.shape[1]
        mean = SumBoth.apply(x.sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
        # The mean first: a variance from sums of squares loses its digits where the mean is large.
        centred = x - mean[:, None, None]
        variance = SumBoth.apply(centred.square().sum((0, 2, 3))) / count  # type: ignore[no-untyped-call]
        self._remember(mean.detach(), variance.detach(), count)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalised: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normalised

    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(1, count - 1), self.momentum)


def synchronise_norms(network: nn.Module) -> None:
    """Put a SynchronisedBatchNorm2d in the place of every nn.BatchNorm2d of `network`."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                norm = SynchronisedBatchNorm2d(child.num_features, child.eps, child.momentum)
                norm.load_state_dict(child.state_dict())
                norm.train(child.training)
                setattr(parent, name, norm)
