"""Starting or resuming a run: pictures, a network with its first weights, provenance."""

from __future__ import annotations

import hashlib
import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limen.errors import ConfigError
from limen.train.network import MobileNetEmbedder, count_multiply_adds, count_parameters
from limen.train.pictures import CHOOSE, FIT, Pictures, PicturesError, open_pictures
from limen.train.recipe import DistillationObjective, Recipe
from limen.train.slim import Teacher, slim
from limen.train.trainer import LAST, Trainer
from limen.train.validation import to_input

SLIMMING_CROPS = 2048

log = logging.getLogger(__name__)


class StartedTraining(Trainer):
    """A trainer that can say in a line what it is about to do."""

    def summary(self) -> str:
        """The run in one line."""
        network, recipe = self.network, self.recipe
        return (
            f"{count_parameters(network) / 1e6:.2f} M parameters, "
            f"{count_multiply_adds(network) / 1e6:.0f} M multiply-adds; "
            f"{len(self.fit):,} pictures of {len(self.fit.names):,} identities; "
            f"{recipe.total_steps:,} steps of "
            f"{recipe.batch.identities} x {recipe.batch.per_identity}, from step {self.step:,}"
        )


def start_training(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    slim_from: Path | None = None,
    resume: bool = False,
    threads: int | None = None,
) -> StartedTraining:
    """Read the pictures, set the first weights, and return what `run` then runs.

    ConfigError where `out` already holds a run and `resume` was not asked for, or the reverse.
    """
    last = out / LAST
    if last.exists() and not resume:
        raise ConfigError(f"{last} exists: add --resume to go on from it, or name another --out")
    if resume and not last.exists():
        raise ConfigError(f"nothing to resume: no {last}")
    torch.set_num_threads(threads or os.cpu_count() or 1)
    torch.manual_seed(recipe.seed)
    fit = open_pictures(data, FIT)
    choose = _choose_or_none(data)
    network = MobileNetEmbedder(recipe.model.width, recipe.model.embedding_size)
    provenance = _provenance(recipe, fit, slim_from)
    if slim_from is not None and not resume:
        _warm_start(network, slim_from, fit, recipe)
    out.mkdir(parents=True, exist_ok=True)
    trainer = StartedTraining(recipe, network, fit, choose, out, provenance)
    if resume:
        trainer.resume(last)
    return trainer


def _choose_or_none(data: Path) -> Pictures | None:
    try:
        return open_pictures(data, CHOOSE)
    except PicturesError as error:
        log.warning("no validation: %s", error)
        return None


def _warm_start(network: MobileNetEmbedder, path: Path, fit: Pictures, recipe: Recipe) -> None:
    rng = np.random.default_rng([recipe.seed, 4])
    count = min(SLIMMING_CROPS, len(fit))
    chosen = rng.choice(len(fit), count, replace=False)
    crops = np.stack([fit.decode(int(index), recipe.input_px) for index in chosen])
    slim(Teacher(path), network, to_input(crops).contiguous(), np.random.default_rng(recipe.seed))


def _provenance(recipe: Recipe, fit: Pictures, slim_from: Path | None) -> dict[str, Any]:
    teachers = sorted(
        {
            objective.teacher
            for stage in recipe.stages
            for objective in stage.objectives
            if isinstance(objective, DistillationObjective)
        }
    )
    started: dict[str, Any] = {
        "data": [{"part": fit.part, "identities": len(fit.names), "pictures": len(fit)}],
        "teachers": teachers,
        "packages": {
            name: version(name) for name in ("limen", "torch", "pytorch-metric-learning", "numpy")
        },
    }
    if slim_from is not None:
        started["slimmed_from"] = {
            "file": slim_from.name,
            "sha256": hashlib.sha256(slim_from.read_bytes()).hexdigest(),
        }
    return started
