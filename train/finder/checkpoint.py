"""A finder's checkpoints: the whole state of a run, or the averaged weights alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limen.train.checkpoint_file import read_content, write_content
from limen.train.finder.network import FinderNetwork
from limen.train.finder.recipe import FinderRecipe

SCHEMA_VERSION = 1
KIND = "finder"
WHAT = "checkpoint of a finder"


@dataclass(frozen=True, slots=True)
class FinderCheckpoint:
    """A run at `step`. `averaged` are the weights that are validated and exported.

    weights and optimizer are empty and None where nothing goes on from it; best: the best score of
    a validation so far, None before the first.
    """

    recipe: FinderRecipe
    step: int
    weights: dict[str, Tensor]
    averaged: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    provenance: dict[str, Any]
    validation: dict[str, float]
    best: float | None = None

    def network(self) -> FinderNetwork:
        """The averaged network, in evaluation mode."""
        network = FinderNetwork(self.recipe.channels)
        network.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in self.averaged.items()}
        )
        return network.eval()


def save_finder(path: Path, checkpoint: FinderCheckpoint) -> None:
    """Write `checkpoint`; after an interruption `path` holds the old one or the new one, whole.

    CheckpointWriteError where it cannot be written.
    """
    content = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "recipe": checkpoint.recipe.model_dump_json(),
        "step": checkpoint.step,
        "weights": checkpoint.weights,
        "averaged": checkpoint.averaged,
        "optimizer": checkpoint.optimizer,
        "provenance": json.dumps(checkpoint.provenance),
        "validation": checkpoint.validation,
        "best": checkpoint.best,
    }
    write_content(path, content)


def load_finder(path: Path) -> FinderCheckpoint:
    """Read a checkpoint without running any code in it. CheckpointError where it is not one."""
    with read_content(path, WHAT, SCHEMA_VERSION, KIND) as content:
        return FinderCheckpoint(
            recipe=FinderRecipe.model_validate_json(content["recipe"]),
            step=content["step"],
            weights=content["weights"],
            averaged=content["averaged"],
            optimizer=content["optimizer"],
            provenance=json.loads(content["provenance"]),
            validation=content["validation"],
            best=content["best"],
        )


def slimmed(checkpoint: FinderCheckpoint) -> FinderCheckpoint:
    """For keeping: the averaged weights alone, as float16."""
    averaged = {
        name: value.half() if value.is_floating_point() else value
        for name, value in checkpoint.averaged.items()
    }
    return FinderCheckpoint(
        recipe=checkpoint.recipe,
        step=checkpoint.step,
        weights={},
        averaged=averaged,
        optimizer=None,
        provenance=checkpoint.provenance,
        validation=checkpoint.validation,
        best=checkpoint.best,
    )
