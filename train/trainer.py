"""The training loop: a recipe and pictures in, checkpoints and error rates out."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from limen.errors import LimenError
from limen.train.batches import Batch, PKSampler, batches
from limen.train.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from limen.train.network import MobileNetEmbedder
from limen.train.objectives import build_losses
from limen.train.pictures import Pictures
from limen.train.recipe import Recipe, Stage
from limen.train.validation import to_input, validate

LAST, BEST, LOG = "last.pt", "best.pt", "log.jsonl"
SELECTION = "fnmr_at_fmr_1e-3"
COLLAPSED_COSINE = 0.97
COLLAPSE_PATIENCE_STEPS = 50


class TrainingError(LimenError, RuntimeError):
    """Training cannot go on."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a progress bar shows."""

    step: int
    total_steps: int
    stage: str
    loss: float
    pictures_per_second: float
    validation: Mapping[str, float]


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a half cosine down to the final rate."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    done = (step - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    low = min(stage.final_learning_rate, stage.learning_rate)
    return low + (stage.learning_rate - low) * (1 + math.cos(math.pi * done)) / 2


def fade(recipe: Recipe, step: int) -> float:
    """How much of a warm start's PReLU slopes is left at `step`; nothing after their stage."""
    stage, within = recipe.stage_at(step)
    first = recipe.stages[0]
    if stage is not first or first.fade_steps == 0:
        return 0.0
    return max(0.0, 1 - within / first.fade_steps)


def averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential moving average whose memory grows with the run: min(decay, (1+n) / (10+n)).

    Without the warm-up the first, far-away weights spoil the average for thousands of steps.
    """

    @torch.no_grad()
    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor) -> None:
        count = int(updates)
        share = 1 - min(decay, (1 + count) / (10 + count))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, share)
            else:  # the batch counters of batch normalisation
                old.copy_(new)

    return average


class CollapseAlarm:
    """Stops a run whose embeddings have become one point, as triplets can make them.

    It looks at the mean cosine between embeddings of different identities.
    """

    def __init__(self) -> None:
        self._steps = 0

    def check(self, embeddings: Tensor, identity: Tensor) -> float:
        """Return the mean non-mated cosine of a batch. TrainingError on a lasting collapse."""
        unit = torch.nn.functional.normalize(embeddings.detach())
        different = identity[:, None] != identity[None, :]
        cosine = float((unit @ unit.T)[different].mean())
        self._steps = self._steps + 1 if cosine > COLLAPSED_COSINE else 0
        if self._steps >= COLLAPSE_PATIENCE_STEPS:
            raise TrainingError(
                f"the embeddings have collapsed: strangers' mean cosine is {cosine:.3f}. "
                "Lower the learning rate, start from a trained checkpoint, or begin with "
                "distillation or semi-hard mining before batch-hard triplets"
            )
        return cosine


class Trainer:
    """Runs a recipe. `network` sets the start: fresh, or warm from slimming."""

    def __init__(
        self,
        recipe: Recipe,
        network: MobileNetEmbedder,
        fit: Pictures,
        choose: Pictures | None,
        out: Path,
        provenance: dict[str, Any],
        workers: int = 1,
    ) -> None:
        self.recipe = recipe
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedModel(
            network, multi_avg_fn=averaging(recipe.ema_decay), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        self.fit, self.choose, self.out = fit, choose, out
        self.provenance = provenance
        self.step = 0
        self.best = math.inf
        self.validation: dict[str, float] = {}
        self._workers = workers
        self._teachers = {name: torch.from_numpy(rows) for name, rows in fit.teachers.items()}
        # All at once, so that a missing teacher is told before an hour is spent.
        self._losses = {
            stage: build_losses(stage.objectives, list(self._teachers)) for stage in recipe.stages
        }

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe. CheckpointError otherwise."""
        saved = load_checkpoint(path)
        if saved.recipe != self.recipe:
            raise CheckpointError(
                f"{path} was made by another recipe: name another --out, or the old recipe"
            )
        assert saved.optimizer is not None
        self.network.load_state_dict(saved.weights)
        self._averaged_network.load_state_dict(saved.averaged)
        self.averaged.n_averaged.fill_(saved.step)
        self.network.sync_fade()
        self._averaged_network.sync_fade()
        self.optimizer.load_state_dict(saved.optimizer)
        self.step = saved.step
        self.validation = saved.validation
        best = self.out / BEST
        if best.exists():
            self.best = load_checkpoint(best).validation.get(SELECTION, math.inf)

    @property
    def _averaged_network(self) -> MobileNetEmbedder:
        network = self.averaged.module
        assert isinstance(network, MobileNetEmbedder)
        return network

    def run(self, report: Callable[[Progress], None] = lambda _: None) -> dict[str, float]:
        """Train to the recipe's end and return the last validation."""
        recipe, alarm = self.recipe, CollapseAlarm()
        sampler = PKSampler(
            self.fit, recipe.batch.identities, recipe.batch.per_identity, recipe.seed
        )
        steps = range(self.step, recipe.total_steps)
        source = batches(
            self.fit,
            sampler,
            recipe.augmentation_at,
            recipe.input_px,
            recipe.seed,
            steps,
            workers=self._workers,
        )
        started, seen = time.monotonic(), 0
        for batch in source:
            stage, within = recipe.stage_at(self.step)
            loss, parts = self._train_step(batch, stage, within, alarm)
            seen += len(batch.index)
            self.step += 1
            last = self.step == recipe.total_steps
            if last or self.step % recipe.validate_every_steps == 0:
                self._validate()
            if last or self.step % recipe.checkpoint_every_steps == 0:
                save_checkpoint(self.out / LAST, self._checkpoint())
            rate = seen / (time.monotonic() - started)
            if self.step % 20 == 0 or last:
                self._log(stage, parts, rate)
            report(Progress(self.step, recipe.total_steps, stage.name, loss, rate, self.validation))
        return self.validation

    def _train_step(
        self, batch: Batch, stage: Stage, within: int, alarm: CollapseAlarm
    ) -> tuple[float, dict[str, float]]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(stage, within)
            group["weight_decay"] = stage.weight_decay
        amount = fade(self.recipe, self.step)
        self.network.train()
        self.network.set_fade(amount)
        identity = torch.from_numpy(batch.identity)
        index = torch.from_numpy(batch.index)
        teachers = {name: rows[index] for name, rows in self._teachers.items()}
        embeddings = self.network(to_input(batch.crops))
        parts = {loss.name: loss(embeddings, identity, teachers) for loss in self._losses[stage]}
        total = torch.stack(list(parts.values())).sum()
        if not torch.isfinite(total):
            raise TrainingError(
                f"the loss is not a number at step {self.step}: lower the learning rate; "
                f"the last checkpoint is {self.out / LAST}"
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.averaged.update_parameters(self.network)
        self._averaged_network.set_fade(amount)
        values = {name: float(value.detach()) for name, value in parts.items()}
        values["non_mated_cosine"] = alarm.check(embeddings, identity)
        return float(total.detach()), values

    def _validate(self) -> None:
        if self.choose is None:
            return
        self.validation = validate(self._averaged_network, self.choose, self.recipe.input_px)
        if self.validation[SELECTION] <= self.best:
            self.best = self.validation[SELECTION]
            save_checkpoint(self.out / BEST, self._checkpoint(with_optimizer=False))

    def _checkpoint(self, with_optimizer: bool = True) -> Checkpoint:
        return Checkpoint(
            recipe=self.recipe,
            step=self.step,
            channels=self.network.channels,
            weights=self.network.state_dict() if with_optimizer else {},
            averaged=self._averaged_network.state_dict(),
            optimizer=self.optimizer.state_dict() if with_optimizer else None,
            provenance=self.provenance,
            validation=self.validation,
        )

    def _log(self, stage: Stage, parts: Mapping[str, float], rate: float) -> None:
        row = {
            "step": self.step,
            "stage": stage.name,
            "pictures_per_second": round(rate, 1),
            **{name: round(value, 5) for name, value in parts.items()},
            **self.validation,
        }
        with (self.out / LOG).open("a") as file:
            file.write(json.dumps(row) + "\n")
