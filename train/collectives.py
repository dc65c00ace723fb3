"""Collectives over the default process group, with the gradients that each of them has here.

Each gradient is derived for a loss that every process computes alike from the whole batch
(`limen.train.ranks`). They pass through no device of their own: gloo on CPUs, NCCL on GPUs.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as processes
from torch import Tensor
from torch.autograd import Function


def all_gather(rows: Tensor, size: int) -> Tensor:
    """(n, ...) of every process, one behind the other; n must be the same everywhere."""
    found = [torch.empty_like(rows) for _ in range(size)]
    processes.all_gather(found, rows.detach().contiguous())
    return torch.cat(found)


def gather_uneven(rows: Tensor, lengths: Sequence[int]) -> Tensor:
    """(lengths[rank], ...) of every process, one behind the other."""
    padded = rows.new_zeros((max(lengths), *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    found = all_gather(padded, len(lengths)).view(len(lengths), *padded.shape)
    return torch.cat([part[:length] for part, length in zip(found, lengths, strict=True)])


def all_reduce_max(values: Tensor) -> Tensor:
    """The elementwise maximum."""
    result = values.detach().clone()
    processes.all_reduce(result, processes.ReduceOp.MAX)
    return result


def all_reduce_mean(values: Tensor) -> None:
    """Put the elementwise mean in the place of `values`."""
    processes.all_reduce(values)
    values /= processes.get_world_size()


def _all_reduce_sum(values: Tensor) -> Tensor:
    result = values.detach().contiguous().clone()
    processes.all_reduce(result)
    return result


class GatherRows(Function):
    """all_gather; backward keeps this process's rows, times the number of processes.

    Every process holds the same gradient of all rows, so nothing needs to be sent. The factor
    undoes the mean that DistributedDataParallel takes of gradients that should be summed.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, size: int) -> Tensor:
        ctx.place = slice(rank * len(rows), (rank + 1) * len(rows))
        ctx.size = size
        return all_gather(rows, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.place] * ctx.size, None, None


class SumGradients(Function):
    """The identity; backward sums over the processes (Shoeybi et al., arXiv:1909.08053, f)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _all_reduce_sum(gradients[0])


class SumValues(Function):
    """The sum over the processes; backward is the identity (the same paper's g)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return _all_reduce_sum(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class SumBoth(Function):
    """The sum over the processes; backward sums too, since each uses the sum for its own rows."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _all_reduce_sum(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _all_reduce_sum(gradients[0])
