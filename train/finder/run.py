"""Starting or resuming a finder's run: labels, pictures, provenance."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from importlib.metadata import version
from pathlib import Path

import cv2
import torch

from limen.errors import ConfigError
from limen.train.finder.checkpoint import load_finder
from limen.train.finder.hard_cases import HardCases, find_hard_cases
from limen.train.finder.recipe import FinderRecipe
from limen.train.finder.source import FinderDataError, LabelledPictures, open_labelled
from limen.train.finder.trainer import FinderTrainer
from limen.train.networks.family import count_parameters
from limen.train.run import default_workers
from limen.train.run_folder import LAST

HARD_CASES = "hard-cases.json"


class StartedFinderTraining(FinderTrainer):
    """A trainer that can say in a line what it is about to do."""

    def summary(self) -> str:
        """The run in one line."""
        assert isinstance(self.fit, LabelledPictures)
        return (
            f"{count_parameters(self.network):,} parameters; {self.fit.faces:,} faces in "
            f"{len(self.fit):,} pictures; {self.recipe.steps:,} steps of {self.recipe.batch} scenes, "
            f"from step {self.step:,}"
        )


def start_finder_training(
    recipe: FinderRecipe,
    labels: Path,
    out: Path,
    *,
    left_out: Collection[str] = (),
    init_from: Path | None = None,
    resume: bool = False,
    threads: int | None = None,
    workers: int | None = None,
    looking: Callable[[int, int], None] = lambda done, total: None,
) -> StartedFinderTraining:
    """Read the labels and return what `run` then runs.

    labels: a file of 'limen label'; left_out: names of pictures never to train on or choose by;
    init_from: a checkpoint whose averaged weights to start from, which a resumed run has already.
    threads: of the network, all cores where None; workers: threads that compose scenes; looking: told
    how many pictures have been looked at for hard cases, where the recipe wants some.

    ConfigError where `out` already holds a run and `resume` was not asked for, or the reverse, or
    where a checkpoint's network is not the recipe's.
    LabelError where the labels cannot be read, FinderDataError where they hold no face.
    """
    if recipe.wants_hard_cases and init_from is None and not resume:
        raise ConfigError(
            "hard_faces and hard_backgrounds are what the first weights get wrong: add --init-from "
            "CHECKPOINT.pt, or set both to 0"
        )
    last = out / LAST
    if last.exists() and not resume:
        raise ConfigError(f"{last} exists: add --resume to go on from it, or name another --out")
    if resume and not last.exists():
        raise ConfigError(f"nothing to resume: no {last}")
    torch.set_num_threads(threads or os.cpu_count() or 1)
    cv2.setNumThreads(1)  # scenes are small, and the workers are the threads
    fit = open_labelled(labels, held_out=False, left_out=left_out)
    try:
        held_out: LabelledPictures | None = open_labelled(labels, held_out=True, left_out=left_out)
    except FinderDataError:  # too few pictures for one in twenty
        held_out = None
    provenance = {
        "data": {
            "labels_sha256": hashlib.sha256(labels.read_bytes()).hexdigest(),
            "pictures": len(fit),
            "faces": fit.faces,
            "held_out_pictures": len(held_out) if held_out else 0,
            "left_out_names": len(left_out),
        },
        "packages": {name: version(name) for name in ("limen", "torch", "numpy")},
    }
    trainer = StartedFinderTraining(
        recipe, fit, held_out, out, provenance, workers or default_workers()
    )
    if resume:
        trainer.resume(last)
    elif init_from is not None:
        _initialise(trainer, init_from)
    if recipe.wants_hard_cases:
        trainer.hard = _hard_cases(trainer, fit, out / HARD_CASES, looking)
    return trainer


def _hard_cases(
    trainer: FinderTrainer, fit: LabelledPictures, file: Path, looking: Callable[[int, int], None]
) -> HardCases:
    """What a run of this folder looked for before, or what the first weights get wrong."""
    if file.exists():
        return HardCases.load(file, len(fit))
    found = find_hard_cases(trainer.averaged_network, fit, report=looking)
    file.parent.mkdir(parents=True, exist_ok=True)
    found.save(file)
    return found


def _initialise(trainer: FinderTrainer, path: Path) -> None:
    saved = load_finder(path)
    if saved.recipe.channels != trainer.recipe.channels:
        raise ConfigError(
            f"{path} holds a network of {saved.recipe.channels} channels, the recipe wants "
            f"{trainer.recipe.channels}: make them agree, or start without --init-from"
        )
    trainer.start_from(saved)
    trainer.provenance["initialised_from"] = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "step": saved.step,
        "recipe": saved.recipe.model_dump(mode="json"),
        "provenance": saved.provenance,
    }


def read_names(file: Path) -> frozenset[str]:
    """Names of pictures, one a line. ConfigError where the file cannot be read."""
    try:
        return frozenset(file.read_text("utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the list of names cannot be read ({error})") from error
