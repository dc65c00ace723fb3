"""Starting or resuming a run: pictures, a network with its first weights, provenance."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from limen.errors import ConfigError
from limen.train.checkpoint import load_checkpoint
from limen.train.decoding import SoundDecoder
from limen.train.intake import checked
from limen.train.launch import launch
from limen.train.networks.embedder import EmbedderNetwork
from limen.train.networks.family import build_network, count_multiply_adds, count_parameters
from limen.train.objectives.settings import DistillationObjective
from limen.train.pictures import CHOOSE, FIT, Pictures, PicturesError, open_pictures
from limen.train.recipe import Recipe
from limen.train.run_folder import LAST
from limen.train.slim import check_student, slim
from limen.train.teacher_graph import Teacher
from limen.train.trainer import Trainer
from limen.train.unlabelled import UNLABELLED, open_unlabelled, with_unlabelled
from limen.train.validation import to_input

SLIMMING_CROPS = 4096

log = logging.getLogger(__name__)


class StartedTraining(Trainer):
    """A trainer that can say in a line what it is about to do."""

    def summary(self) -> str:
        """The run in one line."""
        network, recipe = self.network, self.recipe
        return (
            f"{count_parameters(network) / 1e6:.2f} M parameters, "
            f"{count_multiply_adds(network, recipe.input_px) / 1e6:.0f} M multiply-adds; "
            f"{_told(self.fit)}; {recipe.total_steps:,} steps of "
            f"{recipe.batch.identities} x {recipe.batch.per_identity}"
            + (f" + {recipe.batch.unlabelled}" if recipe.batch.unlabelled else "")
            + (f", over {self.processes} processes" if self.processes > 1 else "")
            + f", from step {self.step:,}"
        )


def start_training(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    slim_from: Path | None = None,
    init_from: Path | None = None,
    unlabelled: Sequence[Path] = (),
    resume: bool = False,
    threads: int | None = None,
    workers: int | None = None,
    devices: int = 1,
) -> StartedTraining:
    """Read the pictures, set the first weights, and return what `run` then runs.

    slim_from: an ONNX network to slim; init_from: a checkpoint whose averaged weights to start
    from; a resumed run has its weights already and looks at neither. unlabelled: folders for the
    recipe's unlabelled share. threads: of the network, all cores where None; workers: threads that
    decode and augment; both of this process. devices: processes on this machine; beyond one, the
    others run this command from its start, so nothing may be written before this call.

    ConfigError where `out` already holds a run and `resume` was not asked for, or the reverse;
    where both first weights are named, or a checkpoint's network is not the recipe's.
    PicturesError where the pictures cannot be used.
    """
    last = out / LAST
    if slim_from is not None and init_from is not None:
        raise ConfigError("--slim-from and --init-from both set the first weights: name one")
    if last.exists() and not resume:
        raise ConfigError(f"{last} exists: add --resume to go on from it, or name another --out")
    if resume and not last.exists():
        raise ConfigError(f"nothing to resume: no {last}")
    processes = launch(devices)
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // processes.here))
    cv2.setNumThreads(1)  # crops are small, and the workers are the threads
    torch.manual_seed(recipe.seed)
    fit = _fit(data, unlabelled, recipe)
    choose = _choose_or_none(data)
    network = build_network(recipe.model, recipe.input_px)
    provenance = _provenance(recipe, fit, slim_from)
    if slim_from is not None and not resume:
        _warm_start(network, slim_from, fit, recipe)
    if init_from is not None and not resume:
        provenance["initialised_from"] = _initialise(network, init_from, recipe)
    workers = workers or default_workers(processes.here)
    trainer = StartedTraining(recipe, network, fit, choose, out, provenance, workers, processes)
    if resume:
        trainer.resume(last)
    return trainer


def default_workers(processes: int = 1) -> int:
    """Half the cores, one at least: what the network leaves over decodes well beside it."""
    return max(1, min(8, (os.cpu_count() or 1) // 2 // processes))


def _told(fit: Pictures) -> str:
    nobody = int((fit.identity < 0).sum())
    text = f"{len(fit) - nobody:,} pictures of {len(fit.names):,} identities"
    return text + (f" and {nobody:,} of nobody known" if nobody else "")


def _fit(data: Path, unlabelled: Sequence[Path], recipe: Recipe) -> Pictures:
    fit = checked(open_pictures(data, FIT))
    if unlabelled and not recipe.batch.unlabelled:
        raise ConfigError(
            "--unlabelled names pictures, but the recipe takes none of them: set [batch] "
            "unlabelled to how many a step"
        )
    if not unlabelled:
        return fit
    return with_unlabelled(fit, [checked(open_unlabelled(folder)) for folder in unlabelled])


def _choose_or_none(data: Path) -> Pictures | None:
    try:
        choose = open_pictures(data, CHOOSE)
    except PicturesError as error:
        log.warning("no validation: %s", error)
        return None
    # All of it, since validation decodes every picture and lets none stand in for another.
    return checked(choose, decode_all=True)


def _warm_start(network: EmbedderNetwork, path: Path, fit: Pictures, recipe: Recipe) -> None:
    teacher = Teacher(path)
    check_student(teacher, network)  # before thousands of crops are read
    rng = np.random.default_rng([recipe.seed, 4])
    count = min(SLIMMING_CROPS, len(fit))
    chosen = rng.choice(len(fit), count, replace=False)
    decoder = SoundDecoder(fit, recipe.input_px)
    crops = np.stack([decoder.decode(int(index))[1] for index in chosen])
    slim(teacher, network, to_input(crops).contiguous(), np.random.default_rng(recipe.seed))


def _initialise(network: EmbedderNetwork, path: Path, recipe: Recipe) -> dict[str, Any]:
    saved = load_checkpoint(path)
    found, expected = saved.recipe.model.model_dump(), recipe.model.model_dump()
    found["input_px"], expected["input_px"] = saved.recipe.input_px, recipe.input_px
    differing = [
        f"{key} {found[key]} in the checkpoint, {expected[key]} in the recipe"
        for key in found
        if found[key] != expected[key]
    ]
    if differing:
        raise ConfigError(
            f"{path} holds another network: {'; '.join(differing)}. Make the recipe's agree, or "
            "start without --init-from"
        )
    start = saved.network()
    if recipe.quantises and start.simulation is not None:
        network.add_simulation()  # to go on from its ranges
    else:
        start.simulation = None
    network.load_state_dict(start.state_dict())
    network.sync_fade()
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "step": saved.step,
        "validation": saved.validation,
        "provenance": saved.provenance,
    }


def _provenance(recipe: Recipe, fit: Pictures, slim_from: Path | None) -> dict[str, Any]:
    teachers = sorted(
        {
            objective.teacher
            for stage in recipe.stages
            for objective in stage.objectives
            if isinstance(objective, DistillationObjective)
        }
    )
    nobody = int((fit.identity < 0).sum())
    data = [{"part": fit.part, "identities": len(fit.names), "pictures": len(fit) - nobody}]
    if nobody:
        data.append({"part": UNLABELLED, "identities": 0, "pictures": nobody})
    started: dict[str, Any] = {
        "data": data,
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
