"""Distances and triplet mining by their names in a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytorch_metric_learning import distances, miners
from torch import Tensor

from limen.train.objectives.settings import Distance, TripletMining

Miner = Callable[[Tensor, Tensor], Any]


def distance_named(name: Distance) -> Any:
    """pytorch-metric-learning's distance of embeddings with norm 1.

    'cosine' is a similarity. The norm is that of the distance: L2, or L1 for 'manhattan', so that
    every distance lies within 0 and 2 and a margin means about the same in each.
    """
    if name == "cosine":
        return distances.CosineSimilarity()
    return distances.LpDistance(p=1 if name == "manhattan" else 2)


def triplet_miner(mining: TripletMining, margin: float, distance: Distance) -> Miner:
    """The miner that picks triplets from (n, D) embeddings and (n,) identities.

    'batch-all' takes every triplet that violates the margin and 'semi-hard' those of them whose
    non-mated pair is farther than the mated one (Schroff et al., 2015); 'batch-hard' each anchor's
    hardest mated and non-mated picture (Hermans et al., 2017); 'distance-weighted' draws by the
    inverse density of Euclidean distances on the sphere (Wu et al., 2017).
    """
    miner: Miner
    if mining == "batch-hard":
        miner = miners.BatchHardMiner(distance=distance_named(distance))
    elif mining == "distance-weighted":
        miner = miners.DistanceWeightedMiner()
    else:
        miner = miners.TripletMarginMiner(
            margin=margin,
            distance=distance_named(distance),
            type_of_triplets="semihard" if mining == "semi-hard" else "all",
        )
    return miner
