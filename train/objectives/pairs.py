"""Losses on pairs and triplets of a batch: pytorch-metric-learning's, with their mining."""

from __future__ import annotations

import math
import warnings
from typing import Any

from pytorch_metric_learning import losses, miners, reducers, regularizers
from torch import Tensor

from limen.train.objectives import settings as of
from limen.train.objectives.mining import Miner, distance_named, triplet_miner
from limen.train.objectives.terms import LabelledTerm


class PairTerm(LabelledTerm):
    """A loss of pytorch-metric-learning, on what its miner picks from the batch."""

    def __init__(
        self,
        settings: of.LabelledObjective,
        loss: Any,
        miner: Miner | None = None,
        collapsed_at: float | None = None,
    ) -> None:
        super().__init__(settings.kind, settings.weight)
        self.loss = loss
        self.miner = miner
        if collapsed_at is not None:
            self.collapsed_at = settings.weight * collapsed_at

    def labelled(self, embeddings: Tensor, identity: Tensor) -> Tensor:
        picked = None if self.miner is None else self.miner(embeddings.detach(), identity)
        loss: Tensor = self.loss(embeddings, identity, picked)
        return loss


class MarginTerm(PairTerm):
    """Margin loss, whose boundaries may be learnt."""

    def __init__(self, settings: of.MarginObjective, classes: int) -> None:
        loss = losses.MarginLoss(
            margin=settings.margin,
            nu=settings.nu,
            beta=settings.boundary,
            learn_beta=settings.learn_beta,
            num_classes=classes if settings.learn_beta else None,
            distance=distance_named(settings.distance),
        )
        miner = triplet_miner(settings.mining, settings.margin, settings.distance)
        super().__init__(settings, loss, miner)
        self.own_rate = settings.own_rate
        self.own_paths = {"margin-boundaries": "loss.beta"}


def pair_term(settings: of.LabelledObjective, classes: int) -> PairTerm:
    """The term of an objective on pairs or triplets. TypeError for one of another family."""
    match settings:
        case of.TripletObjective():
            return _triplet(settings)
        case of.ContrastiveObjective():
            mated, non_mated = settings.margins
            loss = losses.ContrastiveLoss(
                pos_margin=mated, neg_margin=non_mated, distance=distance_named(settings.distance)
            )
            # One point: the mated pairs are where they should be, the non-mated ones are not.
            gap = 1 - non_mated if settings.distance == "cosine" else non_mated
            met = mated >= 1 if settings.distance == "cosine" else mated >= 0
            return PairTerm(settings, loss, collapsed_at=gap if met and gap > 0 else None)
        case of.MarginObjective():
            return MarginTerm(settings, classes)
        case of.LiftedStructureObjective():
            mated, non_mated = settings.margins
            kind = (
                losses.GeneralizedLiftedStructureLoss
                if settings.generalized
                else losses.LiftedStructureLoss
            )
            distance = distance_named(settings.distance)
            return PairTerm(
                settings, kind(neg_margin=non_mated, pos_margin=mated, distance=distance)
            )
        case of.NPairObjective():
            # The library takes each identity's first pair; which that is, a batch draws anew.
            loss = losses.NPairsLoss(
                embedding_regularizer=(
                    regularizers.LpRegularizer() if settings.norm_weight else None
                ),
                embedding_reg_weight=settings.norm_weight,
            )
            return PairTerm(settings, loss)
        case of.AngularObjective():
            return PairTerm(settings, losses.AngularLoss(alpha=settings.alpha_deg))
        case of.MultiSimilarityObjective():
            loss = losses.MultiSimilarityLoss(settings.alpha, settings.beta, settings.base)
            return PairTerm(settings, loss, miners.MultiSimilarityMiner(settings.epsilon))
        case of.CircleObjective():
            return PairTerm(settings, losses.CircleLoss(settings.m, settings.gamma))
        case of.SupConObjective():
            return PairTerm(settings, losses.SupConLoss(settings.temperature))
        case of.RankedListObjective():
            with warnings.catch_warnings():
                # It warns from 5 on; the settings' bounds keep exp() within float32.
                warnings.simplefilter("ignore", UserWarning)
                loss = losses.RankedListLoss(
                    settings.margin,
                    settings.temperature_neg,
                    imbalance=settings.imbalance,
                    alpha=settings.alpha,
                    Tp=settings.temperature_pos,
                )
            return PairTerm(settings, loss)
        case _:
            raise TypeError(f"'{settings.kind}' is no loss on pairs")


def _triplet(settings: of.TripletObjective) -> PairTerm:
    loss = losses.TripletMarginLoss(
        margin=settings.margin,
        distance=distance_named(settings.distance),
        smooth_loss=settings.smooth,
        reducer=reducers.MeanReducer(),
    )
    miner = triplet_miner(settings.mining, settings.margin, settings.distance)
    collapsed_at = math.log1p(math.exp(settings.margin)) if settings.smooth else settings.margin
    return PairTerm(settings, loss, miner, collapsed_at)
