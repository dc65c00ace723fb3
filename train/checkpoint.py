"""An embedder's checkpoints: the whole state of a run, or the averaged weights alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from limen.train.checkpoint_file import read_content, write_content
from limen.train.networks.embedder import EmbedderNetwork
from limen.train.networks.family import build_network
from limen.train.recipe import Recipe

SCHEMA_VERSION = 1
WHAT = "checkpoint of an embedder"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run at `step`. `averaged` are the weights that are validated and exported.

    own_weights: of losses that have some (class centres, proxies), by kind. selection: the best
    validation so far, and how many since have not bettered it.
    """

    recipe: Recipe
    step: int
    channels: list[int]
    weights: dict[str, Tensor]
    averaged: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    provenance: dict[str, Any]
    validation: dict[str, float]
    selection: Mapping[str, float] = field(default_factory=dict)
    own_weights: dict[str, Tensor] = field(default_factory=dict)

    def network(self) -> EmbedderNetwork:
        """The averaged network, in evaluation mode and in float, with its ranges if it has any."""
        recipe = self.recipe
        network = build_network(recipe.model, recipe.input_px, self.channels)
        if "simulation.observed" in self.averaged:
            network.add_simulation()
        network.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in self.averaged.items()}
        )
        network.sync_fade()
        return network.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint`; after an interruption `path` holds the old one or the new one, whole.

    CheckpointWriteError where it cannot be written.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "recipe": checkpoint.recipe.model_dump_json(),
        "step": checkpoint.step,
        "channels": checkpoint.channels,
        "weights": checkpoint.weights,
        "averaged": checkpoint.averaged,
        "optimizer": checkpoint.optimizer,
        "provenance": json.dumps(checkpoint.provenance),
        "validation": checkpoint.validation,
        "selection": dict(checkpoint.selection),
        "own_weights": checkpoint.own_weights,
    }
    write_content(path, content)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without running any code in it. CheckpointError where it is not one."""
    with read_content(path, WHAT, SCHEMA_VERSION) as content:
        return Checkpoint(
            recipe=Recipe.model_validate_json(content["recipe"]),
            step=content["step"],
            channels=content["channels"],
            weights=content["weights"],
            averaged=content["averaged"],
            optimizer=content["optimizer"],
            provenance=json.loads(content["provenance"]),
            validation=content["validation"],
            selection=content.get("selection", {}),
            own_weights=content.get("own_weights", {}),
        )
