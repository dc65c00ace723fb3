"""Learning from a teacher's embeddings; the only term that pictures of nobody known take part in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from limen.train.objectives.settings import DistillationObjective
from limen.train.objectives.terms import Term


class DistillationTerm(Term):
    """1 - cosine to the teacher's embedding, plus the squared error of the batch's similarities.

    The second part is relational distillation (Park et al., arXiv:1904.05068) on cosines: what
    a door uses is the similarity of two embeddings, not where either lies. Where the teacher's
    embeddings have another size, it is all that can be compared.
    """

    def __init__(self, settings: DistillationObjective, name: str = "distillation") -> None:
        super().__init__(name, settings.weight)
        self._teacher = settings.teacher
        self._cosine_weight = settings.cosine_weight
        self._pairwise_weight = settings.pairwise_weight

    def forward(
        self, embeddings: Tensor, identity: Tensor, teachers: Mapping[str, Tensor]
    ) -> Tensor:
        target = teachers[self._teacher]
        unit = torch.nn.functional.normalize(embeddings)
        loss = unit.new_zeros(())
        if self._cosine_weight and unit.shape[1] == target.shape[1]:
            loss = loss + self._cosine_weight * (1 - (unit * target).sum(1).mean())
        if self._pairwise_weight:
            error = (unit @ unit.T - target @ target.T).square().mean()
            loss = loss + self._pairwise_weight * error
        return self.weight * loss
