"""The processes of a run, and what they tell each other; one process tells nobody.

A batch is split over the processes, the embeddings of all are gathered, and every process computes
the loss of the whole batch. So a loss sees every negative, and the gradients are those of one
process with the whole batch (docs/adr/0010-whole-batch-everywhere.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limen.train import collectives


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `size`. The collectives must be called by all of them, in one order."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and talks to the user."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """(n, ...) of every process, (size x n, ...), in the order of ranks; no gradient."""
        return rows if self.size == 1 else collectives.all_gather(rows, self.size)

    def gather_rows_of(self, count: int, rows: Tensor) -> Tensor:
        """(count, ...), of which each process has its `share_of(count, ranks)`."""
        if self.size == 1:
            return rows
        lengths = [len(share_of(count, Ranks(rank, self.size))) for rank in range(self.size)]
        return collectives.gather_uneven(rows, lengths)

    def gather_embeddings(self, rows: Tensor) -> Tensor:
        """(n, D) of every process, (size x n, D), for a loss that all of them compute alike.

        The gradient that comes back is scaled for a mean over processes, which is what
        DistributedDataParallel takes: their mean is then the whole loss's gradient.
        """
        if self.size == 1:
            return rows
        return collectives.GatherRows.apply(rows, self.rank, self.size)  # type: ignore[no-untyped-call, no-any-return]

    def to_shards(self, rows: Tensor) -> Tensor:
        """`rows`, the same everywhere; their gradient is the sum of what the shards say."""
        return rows if self.size == 1 else collectives.SumGradients.apply(rows)  # type: ignore[no-untyped-call]

    def sum_of_shards(self, rows: Tensor) -> Tensor:
        """The sum of what the shards found; each shard has the sum's gradient."""
        return rows if self.size == 1 else collectives.SumValues.apply(rows)  # type: ignore[no-untyped-call]

    def highest(self, values: Tensor) -> Tensor:
        """The elementwise maximum over the processes; no gradient."""
        return values if self.size == 1 else collectives.all_reduce_max(values)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Make the gradients of weights that all processes hold alike equal to the last bit."""
        if self.size > 1:
            for parameter in parameters:
                if parameter.grad is not None and not is_sharded(parameter):
                    collectives.all_reduce_mean(parameter.grad)

    def mark_sharded(self, weights: Tensor, classes: int, per_class: int) -> None:
        """Note that `weights` are this process's rows of (classes x per_class, D)."""
        if self.size > 1:
            weights.sharded_rows = (classes, per_class)  # type: ignore[attr-defined]

    def whole(self, weights: Tensor, rows: Tensor) -> Tensor:
        """The rows of all processes, for `rows` that are laid out like `weights`."""
        if not is_sharded(weights):
            return rows
        classes, per_class = weights.sharded_rows  # type: ignore[attr-defined]
        return collectives.gather_uneven(
            rows,
            [len(share_of(classes, Ranks(r, self.size))) * per_class for r in range(self.size)],
        )

    def own(self, weights: Tensor, rows: Tensor) -> Tensor:
        """This process's part of all `rows`; the inverse of `whole`."""
        if not is_sharded(weights):
            return rows
        classes, per_class = weights.sharded_rows  # type: ignore[attr-defined]
        here = share_of(classes, self)
        return rows[here.start * per_class : here.stop * per_class].clone()

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            torch.distributed.barrier()

    def from_leader(self, value: Any) -> Any:
        """The leader's `value`, which can be pickled."""
        if self.size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]


ALONE = Ranks()


def is_sharded(weights: Tensor) -> bool:
    """Whether each process holds other rows of `weights`."""
    return hasattr(weights, "sharded_rows")


def share_of(count: int, ranks: Ranks) -> range:
    """The part of 0..count-1 that is this process's: contiguous, of equal length within one."""
    return range(count * ranks.rank // ranks.size, count * (ranks.rank + 1) // ranks.size)
