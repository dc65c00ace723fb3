"""Losses against one learnt proxy an identity: pytorch-metric-learning's."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import distances, losses
from pytorch_metric_learning.utils.common_functions import TorchInitWrapper
from torch import Tensor

from limen.train.objectives.mining import distance_named
from limen.train.objectives.settings import ProxyAnchorObjective, ProxyNCAObjective
from limen.train.objectives.terms import LabelledTerm


class _ProxyTerm(LabelledTerm):
    def __init__(self, settings: ProxyNCAObjective | ProxyAnchorObjective, loss: Any) -> None:
        super().__init__(settings.kind, settings.weight)
        self.loss = loss
        self.own_rate = settings.own_rate
        self.own_paths = {settings.kind: "loss.proxies"}

    def labelled(self, embeddings: Tensor, identity: Tensor) -> Tensor:
        loss: Tensor = self.loss(embeddings, identity)
        return loss


class ProxyNCATerm(_ProxyTerm):
    """Proxy-NCA, on squared Euclidean distances unless another distance is named."""

    def __init__(self, settings: ProxyNCAObjective, classes: int, embedding_size: int) -> None:
        distance = (
            distances.LpDistance(power=2)
            if settings.distance == "euclidean"
            else distance_named(settings.distance)
        )
        loss = losses.ProxyNCALoss(
            classes,
            embedding_size,
            softmax_scale=settings.scale,
            distance=distance,
            weight_init_func=unit_init(embedding_size),
        )
        super().__init__(settings, loss)


class ProxyAnchorTerm(_ProxyTerm):
    """Proxy-anchor."""

    def __init__(self, settings: ProxyAnchorObjective, classes: int, embedding_size: int) -> None:
        loss = losses.ProxyAnchorLoss(
            classes,
            embedding_size,
            margin=settings.margin,
            alpha=settings.alpha,
            weight_init_func=unit_init(embedding_size),
        )
        super().__init__(settings, loss)


def unit_init(embedding_size: int) -> Any:
    """Normal draws whose rows have a norm of about 1.

    Only directions matter, and a step of Adam turns a short row farther than a long one: rows of
    norm 11, the library's default for 128 numbers, would hardly move at a network's rate.
    """
    return TorchInitWrapper(torch.nn.init.normal_, std=embedding_size**-0.5)
