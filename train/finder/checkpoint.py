"""A finder's checkpoints: the whole state of a run, or the averaged weights alone."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limen.files import write_atomically
from limen.train.checkpoint import CheckpointError, CheckpointWriteError
from limen.train.finder.network import FinderNetwork
from limen.train.finder.recipe import FinderRecipe

SCHEMA_VERSION = 1
KIND = "finder"


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


def load_finder(path: Path) -> FinderCheckpoint:
    """Read a checkpoint without running any code in it. CheckpointError where it is not one."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise CheckpointError(
                f"{path}: expected a finder's checkpoint, found another kind of file: name one "
                "that 'limen train finder' wrote"
            )
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise CheckpointError(
                f"{path}: finder checkpoint schema {version}, this limen reads {SCHEMA_VERSION}"
            )
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
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no checkpoint there") from error
    except Exception as error:  # torch.load raises whatever a damaged file provokes
        raise CheckpointError(
            f"{path}: not a whole checkpoint of a finder ({type(error).__name__})"
        ) from error


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
