"""The alarm of a run whose embeddings become one point, as triplets can make them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limen.errors import LimenError
from limen.train.objectives.terms import Term

COLLAPSED_COSINE = 0.97
COLLAPSED_SPREAD = 0.2
AT_THE_MARGIN = 0.15
PATIENCE_STEPS = 50


class TrainingError(LimenError, RuntimeError):
    """Training cannot go on."""


class CollapsedError(TrainingError):
    """The embeddings have become one point."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How far a batch's embeddings lie apart.

    non_mated_cosine: mean over pairs of different identities; 0 for healthy embeddings, 1 for one
    point; nan without such a pair. spread: root mean square over the dimensions of the unit
    embeddings' standard deviation, times sqrt(D): 1 on the whole sphere, 0 for one point.
    """

    non_mated_cosine: float
    spread: float


@torch.no_grad()
def measure_spread(embeddings: Tensor, identity: Tensor) -> Spread:
    """embeddings: (n, D), any norm; identity: (n,), where pictures of nobody known (-1) are not
    compared with each other.
    """
    unit = torch.nn.functional.normalize(embeddings.detach())
    different = identity[:, None] != identity[None, :]
    cosine = (unit @ unit.T)[different].mean()
    variance = unit.var(0, correction=0).sum()
    return Spread(float(cosine), math.sqrt(float(variance)))


class CollapseAlarm:
    """Stops a run after `PATIENCE_STEPS` steps of a collapse in a row.

    A collapse is both: the embeddings' spread is lost, and every term whose value at one point is
    known (a triplet loss: its margin) is stuck there. A term without such a value has no say.
    """

    def __init__(self, terms: Sequence[Term] = ()) -> None:
        self._stuck_at = {
            term.name: term.collapsed_at for term in terms if term.collapsed_at is not None
        }
        self._steps = 0

    def check(
        self, embeddings: Tensor, identity: Tensor, parts: Mapping[str, float] | None = None
    ) -> Spread:
        """Note a step and return its spread. parts: the weighted terms by name.

        CollapsedError on a lasting collapse, with what to try.
        """
        found = measure_spread(embeddings, identity)
        parts = parts or {}
        gone = found.non_mated_cosine > COLLAPSED_COSINE and found.spread < COLLAPSED_SPREAD
        stuck = all(
            abs(parts[name] - value) <= AT_THE_MARGIN * value
            for name, value in self._stuck_at.items()
            if name in parts
        )
        self._steps = self._steps + 1 if gone and stuck else 0
        if self._steps >= PATIENCE_STEPS:
            raise CollapsedError(self._advice(found, parts))
        return found

    def _advice(self, found: Spread, parts: Mapping[str, float]) -> str:
        losses = "".join(
            f", {name} is stuck at {parts[name]:.3f} (one point gives {value:.3f})"
            for name, value in self._stuck_at.items()
            if name in parts
        )
        return (
            f"the embeddings have collapsed: strangers' mean cosine is {found.non_mated_cosine:.3f} "
            f"(healthy: near 0), their spread {found.spread:.3f} (healthy: near 1){losses}. Start "
            "again and try, in this order: a lower learning rate or a longer warm-up; "
            'mining = "semi-hard" or "distance-weighted" before "batch-hard"; a stage of '
            "'arcface', 'cosface' or distillation first; --init-from a trained checkpoint"
        )
