"""Take one step as one process of a run, and write down what came of it.

`python one_of_many.py OUT` under torchrun's environment, or alone: tests/train/test_distributed.py
starts it both ways and compares.
"""

import sys
from pathlib import Path

import numpy as np
import torch

import limen.train.learner as learner_module
from limen.train.batches import Batch
from limen.train.launch import launch, leave
from limen.train.learner import Learner
from limen.train.networks.family import build_network
from limen.train.ranks import share_of
from limen.train.recipe import Recipe

CLASSES, PX = 7, 28
# Triplets need the negatives of all, heads are sharded, one of them sampled; the rest of the
# losses' own weights lie whole in every process; pictures of nobody known are distilled.
CASES = {
    "triplet": [{"kind": "triplet", "mining": "batch-hard"}],
    "drawn triplets": [
        {"kind": "triplet", "mining": "distance-weighted", "distance": "euclidean"},
        {"kind": "distillation", "teacher": "t"},
    ],
    "arcface": [{"kind": "arcface", "scale": 16}],
    "sampled cosface": [
        {"kind": "cosface", "scale": 16, "sample": 0.7},
        {"kind": "distillation", "teacher": "t"},
    ],
    "few of many": [{"kind": "cosface", "scale": 16, "sample": 0.1}],
    "subcenter-arcface": [{"kind": "subcenter-arcface", "scale": 16, "sub_centers": 2}],
    "replicated": [
        {"kind": "proxy-anchor"},
        {"kind": "margin", "learn_beta": True, "nu": 0.1},
        {"kind": "multi-similarity"},
        {"kind": "supcon"},
    ],
}


class Double(torch.nn.Module):
    """In double precision, so that nothing but a mistake makes two processes differ from one."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.network(crops.double())


def main(out: Path) -> None:
    torch.set_default_dtype(torch.float64)
    learner_module.MAX_GRADIENT_NORM = float("inf")  # clipping would hide a wrong scale
    torch.set_num_threads(1)
    processes = launch()
    rng = np.random.default_rng(0)
    identity = np.array([0, 0, 3, 3, 5, 5, 6, 6, -1, -1])
    crops = rng.integers(0, 256, (len(identity), PX, PX, 3), dtype=np.uint8)
    rows = share_of(len(identity), processes.ranks)
    own = Batch(
        crops[rows.start : rows.stop],
        identity[rows.start : rows.stop],
        np.arange(len(identity))[rows.start : rows.stop],
    )
    embeddings = torch.from_numpy(rng.normal(size=(len(identity), 16)))
    teachers = {"t": torch.nn.functional.normalize(embeddings)}
    found = {}
    for name, objectives in CASES.items():
        recipe = Recipe.model_validate(
            {
                "input_px": PX,
                "model": {"width": 0.125, "embedding_size": 16, "family": "mobilenet-v2"},
                "stages": [{"name": name, "steps": 5, "objectives": objectives}],
            }
        )
        torch.manual_seed(1)
        network = build_network(recipe.model, PX)
        learner = Learner(
            recipe,
            network,
            teachers,
            CLASSES,
            processes.ranks,
            lambda network: Double(processes.wrap(network)),
        )
        step = learner.take(own, 0, asked_to_stop=processes.ranks.rank == 1)
        ranks = processes.ranks
        found[name] = {
            "loss": step.loss,
            "spread": step.spread.spread,
            "stop": step.asked_to_stop,
            "network": {k: p.grad for k, p in network.named_parameters()},
            "running": dict(network.named_buffers()),
            "own": {k: ranks.whole(p, p.grad) for k, p in learner.curriculum.own_weights.items()},
            "own weights": learner.curriculum.saved(),
            "moments": learner.optimizer_state()["state"],
        }
    if processes.ranks.leads:
        torch.save(found, out)
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
