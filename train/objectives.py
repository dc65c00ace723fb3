"""What a batch is asked for: triplets (pytorch-metric-learning) and a teacher's embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor

from limen.errors import LimenError
from limen.train.recipe import DistillationObjective, Objective, TripletObjective


class ObjectiveError(LimenError, ValueError):
    """An objective cannot be used with these pictures."""


class Loss(Protocol):
    """A weighted term of the loss."""

    name: str

    def __call__(
        self, embeddings: Tensor, identity: Tensor, teachers: Mapping[str, Tensor]
    ) -> Tensor:
        """embeddings: (n, D) as the network gives them; identity: (n,); a scalar comes back."""


class TripletLoss:
    """pytorch-metric-learning's triplet loss and miner, on cosine similarity."""

    name = "triplet"

    def __init__(self, settings: TripletObjective) -> None:
        distance = distances.CosineSimilarity()
        self._weight = settings.weight
        self._loss = losses.TripletMarginLoss(
            margin=settings.margin,
            distance=distance,
            smooth_loss=settings.smooth,
            reducer=reducers.MeanReducer(),
        )
        self._miner = {
            "batch-hard": lambda: miners.BatchHardMiner(distance=distance),
            "semi-hard": lambda: miners.TripletMarginMiner(
                margin=settings.margin, distance=distance, type_of_triplets="semihard"
            ),
            "batch-all": lambda: miners.TripletMarginMiner(
                margin=settings.margin, distance=distance, type_of_triplets="all"
            ),
        }[settings.mining]()

    def __call__(
        self, embeddings: Tensor, identity: Tensor, teachers: Mapping[str, Tensor]
    ) -> Tensor:
        triplets = self._miner(embeddings.detach(), identity)
        loss: Tensor = self._loss(embeddings, identity, triplets)
        return self._weight * loss


class DistillationLoss:
    """1 - cosine to the teacher's embedding, plus the squared error of the batch's similarities.

    The second term is relational distillation (Park et al., arXiv:1904.05068) on cosines: what
    a door uses is the similarity of two embeddings, not where either lies.
    """

    name = "distillation"

    def __init__(self, settings: DistillationObjective) -> None:
        self._teacher = settings.teacher
        self._weight = settings.weight
        self._pairwise_weight = settings.pairwise_weight

    def __call__(
        self, embeddings: Tensor, identity: Tensor, teachers: Mapping[str, Tensor]
    ) -> Tensor:
        target = teachers[self._teacher]
        unit = torch.nn.functional.normalize(embeddings)
        if unit.shape[1] == target.shape[1]:
            loss = 1 - (unit * target).sum(1).mean()
        else:  # another size: only the similarities can be compared
            loss = unit.new_zeros(())
        if self._pairwise_weight:
            error = (unit @ unit.T - target @ target.T).square().mean()
            loss = loss + self._pairwise_weight * error
        return self._weight * loss


def build_losses(objectives: Sequence[Objective], teachers: Sequence[str]) -> list[Loss]:
    """One loss an objective. ObjectiveError where a teacher's embeddings are missing."""
    built: list[Loss] = []
    for objective in objectives:
        if isinstance(objective, DistillationObjective):
            if objective.teacher not in teachers:
                raise ObjectiveError(
                    f"the recipe learns from teacher '{objective.teacher}', but the pictures come "
                    f"with {', '.join(teachers) or 'no teacher'}: add teachers.npz to the folder "
                    "or take a recipe without distillation ('triplet')"
                )
            built.append(DistillationLoss(objective))
        else:
            built.append(TripletLoss(objective))
    return built
