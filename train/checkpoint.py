"""Checkpoints that survive a pulled plug: written beside, synchronised, then renamed over."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limen.errors import LimenError
from limen.files import write_atomically
from limen.train.networks.embedder import EmbedderNetwork
from limen.train.networks.family import build_network
from limen.train.recipe import Recipe

SCHEMA_VERSION = 1


class CheckpointError(LimenError, ValueError):
    """A checkpoint cannot be read, or belongs to another recipe."""


class CheckpointWriteError(LimenError, OSError):
    """A checkpoint cannot be written, as on a full disk. The one before it is whole."""


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
    # In memory first: torch.save hides what the file system said behind an error of its own.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with write_atomically(path) as file:
            file.write(buffer.getbuffer())
    except OSError as error:
        kept = "the one before it is whole" if path.exists() else "there is none before it"
        raise CheckpointWriteError(
            f"{path}: the checkpoint of step {checkpoint.step} cannot be written "
            f"({error.strerror}); {kept}. Free some space, then go on with --resume"
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without running any code in it. CheckpointError where it is not one."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise CheckpointError(
                f"{path}: checkpoint schema {version}, this limen reads {SCHEMA_VERSION}"
            )
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
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no checkpoint there") from error
    except Exception as error:  # torch.load raises whatever a damaged file provokes
        raise CheckpointError(
            f"{path}: not a whole checkpoint of 'limen train' ({type(error).__name__})"
        ) from error
