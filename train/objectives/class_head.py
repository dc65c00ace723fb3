"""Margin softmax over class centres: ArcFace, CosFace, sub-centre ArcFace, sharded over processes.

With hundreds of thousands of identities the centres and the logits outgrow one process, so each of
them holds the centres of some classes and computes the logits of the whole batch against those; the
softmax's normaliser is summed over the processes (partial FC: An et al., arXiv:2010.05222). Beyond
that, a step may look at a random share of the non-mated centres (arXiv:2203.15565, section 3.2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from limen.train.objectives.settings import (
    ArcFaceObjective,
    ClassHeadObjective,
    SubCenterArcFaceObjective,
)
from limen.train.objectives.terms import LabelledTerm
from limen.train.ranks import Ranks, share_of

_SMALLEST_SQUARED_SINE = 1e-12  # the gradient of a square root is infinite at 0


class ClassHeadTerm(LabelledTerm):
    """The mean cross-entropy of a batch's scaled cosines to the class centres, with the margin.

    Every process must be given the same, whole batch, and draws the same random numbers; the loss
    and its gradients are then those of one process that holds all centres.
    centres: (classes here x sub-centres, D) float32, this process's, a class's side by side.
    """

    def __init__(
        self, settings: ClassHeadObjective, classes: int, embedding_size: int, ranks: Ranks
    ) -> None:
        super().__init__(settings.kind, settings.weight)
        self.own_rate = settings.own_rate
        self._settings = settings
        self._classes = classes
        self._ranks = ranks
        self._per_class = (
            settings.sub_centers if isinstance(settings, SubCenterArcFaceObjective) else 1
        )
        self._here = share_of(classes, ranks)
        # All are drawn everywhere, so that the first weights do not depend on the processes.
        drawn = torch.randn(classes * self._per_class, embedding_size) * embedding_size**-0.5
        rows = slice(self._here.start * self._per_class, self._here.stop * self._per_class)
        self.centres = nn.Parameter(drawn[rows].clone())
        self.own_paths = {f"class-centres-{self._per_class}": "centres"}
        ranks.mark_sharded(self.centres, classes, self._per_class)

    def labelled(self, embeddings: Tensor, identity: Tensor) -> Tensor:
        ranks, scale = self._ranks, self._settings.scale
        chosen = self._chosen(identity)
        cosine = self._cosines(ranks.to_shards(embeddings), chosen)
        column = torch.searchsorted(chosen, identity).clamp(max=max(0, len(chosen) - 1))
        rows = torch.nonzero(chosen[column] == identity)[:, 0] if len(chosen) else column[:0]
        column = column[rows]
        target = self._with_margin(cosine[rows, column])
        logits = scale * cosine.index_put((rows, column), target)
        # The log of a sum of exponentials, over all processes, none of which may overflow.
        highest = logits.new_full((len(identity),), -math.inf)
        if len(chosen):
            highest = logits.detach().amax(1)
        highest = ranks.highest(highest)
        total = ranks.sum_of_shards((logits - highest[:, None]).exp().sum(1))
        mated = ranks.sum_of_shards(
            logits.new_zeros(len(identity)).index_put((rows,), scale * target)
        )
        return (highest + total.log() - mated).mean()

    def _chosen(self, identity: Tensor) -> Tensor:
        """The classes of this process that the step looks at, ascending."""
        here, share = self._here, self._settings.sample
        if share == 1:
            return torch.arange(here.start, here.stop, device=identity.device)
        # Of all classes everywhere, so that it does not depend on the processes either.
        order = torch.rand(self._classes)
        present = torch.unique(identity.cpu())
        order[present] = -1.0
        count = max(len(present), math.ceil(share * self._classes))
        chosen = torch.sort(torch.topk(order, count, largest=False).indices).values
        chosen = chosen[(chosen >= here.start) & (chosen < here.stop)]
        return chosen.to(identity.device)

    def _cosines(self, embeddings: Tensor, chosen: Tensor) -> Tensor:
        """(n, len(chosen)); of a class's sub-centres the nearest counts."""
        count = self._per_class
        centres: Tensor = self.centres
        if len(chosen) < len(self._here):
            rows = (chosen - self._here.start)[:, None] * count
            rows = rows + torch.arange(count, device=rows.device)
            centres = self.centres[rows.flatten()]
        unit = nn.functional.normalize(embeddings)
        cosine = unit @ nn.functional.normalize(centres).T
        if count == 1:
            return cosine
        return cosine.view(len(unit), len(chosen), count).amax(2)

    def _with_margin(self, cosine: Tensor) -> Tensor:
        """The mated cosines, made harder.

        ArcFace: cos(angle + margin), and beyond angle = pi - margin, where that would rise again,
        cos(angle) - margin sin(margin), as pytorch-metric-learning and InsightFace have it.
        CosFace: the cosine less the margin.
        """
        margin = self._settings.margin
        if not isinstance(self._settings, ArcFaceObjective):
            return cosine - margin
        sine = (1 - cosine.square()).clamp(min=_SMALLEST_SQUARED_SINE).sqrt()
        turned = cosine * math.cos(margin) - sine * math.sin(margin)
        return torch.where(cosine >= -math.cos(margin), turned, cosine - margin * math.sin(margin))
