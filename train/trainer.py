"""The training loop: a recipe and pictures in, checkpoints and error rates out."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from limen.errors import ConfigError, LimenError
from limen.train.batches import Batch, PKSampler, UnlabelledSampler, batches
from limen.train.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from limen.train.decoding import SoundDecoder
from limen.train.interruption import stop_on_signals
from limen.train.journal import Journal
from limen.train.networks.embedder import EmbedderNetwork
from limen.train.objectives import build_losses
from limen.train.pictures import Pictures
from limen.train.recipe import Recipe, Stage
from limen.train.run_folder import BEST, LAST, hold
from limen.train.schedule import averaging, fade, learning_rate
from limen.train.stopwatch import Stopwatch
from limen.train.validation import to_input, validate

log = logging.getLogger(__name__)

SELECTION = "fnmr_at_fmr_1e-3"
COLLAPSED_COSINE = 0.97
COLLAPSE_PATIENCE_STEPS = 50
LOG_EVERY_STEPS = 20
SEED_STRIDE = 100_000_000  # more steps than a recipe can have


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
    bound: str
    validation: Mapping[str, float]


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
        network: EmbedderNetwork,
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
        self.validations_since_best = 0
        self.validation: dict[str, float] = {}
        self.stopwatch = Stopwatch()
        self.interrupted_by: signal.Signals | None = None
        self.stopped_early = False
        self._workers = workers
        if recipe.early_stopping_patience is not None and choose is None:
            raise ConfigError(
                "the recipe stops early on validation, but the folder has no pictures to validate "
                "on: leave early_stopping_patience out, or add identities"
            )
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
        if saved.provenance.get("data") != self.provenance.get("data"):
            log.warning(
                "the pictures are not those that the run began with, so it will not end as it "
                "would have"
            )
        self.provenance = {**self.provenance, **saved.provenance}
        self.validation = saved.validation
        self.validations_since_best = int(saved.selection.get("validations_since_best", 0))
        best = self.out / BEST
        if "best" in saved.selection:
            self.best = saved.selection["best"]
        elif best.exists():
            self.best = load_checkpoint(best).validation.get(SELECTION, math.inf)

    @property
    def _averaged_network(self) -> EmbedderNetwork:
        network = self.averaged.module
        assert isinstance(network, EmbedderNetwork)
        return network

    def run(self, report: Callable[[Progress], None] = lambda _: None) -> dict[str, float]:
        """Train to the recipe's end and return the last validation.

        SIGINT and SIGTERM end it after the step at hand with a checkpoint (`interrupted_by`);
        so does the recipe's early stopping (`stopped_early`). RunFolderError where another
        process writes to the folder, CheckpointWriteError where the disk is full.
        """
        recipe, alarm = self.recipe, CollapseAlarm()
        decoder = SoundDecoder(self.fit, recipe.input_px)
        source = batches(
            PKSampler(self.fit, recipe.batch.identities, recipe.batch.per_identity, recipe.seed),
            decoder,
            recipe.augmentation_at,
            recipe.seed,
            range(self.step, recipe.total_steps),
            unlabelled=UnlabelledSampler(self.fit, recipe.batch.unlabelled, recipe.seed),
            workers=self._workers,
        )
        with (
            hold(self.out),
            stop_on_signals() as stop,
            Journal(self.out, self.step) as journal,
        ):
            for batch in self.stopwatch.waiting(source):
                stage, within = recipe.stage_at(self.step)
                loss, parts = self._train_step(batch, stage, within, alarm)
                self.step += 1
                self.stopwatch.computed(len(batch.index))
                last = self.step == recipe.total_steps
                if last or self.step % recipe.validate_every_steps == 0:
                    self._validate()
                    self.stopped_early = self._patience_is_spent() and not last
                ending = last or self.stopped_early or bool(stop)
                if ending or self.step % recipe.checkpoint_every_steps == 0:
                    save_checkpoint(self.out / LAST, self._checkpoint())
                if ending or self.step % LOG_EVERY_STEPS == 0:
                    journal.write(self._row(stage, parts))
                report(self._progress(stage, loss))
                if ending:
                    self.interrupted_by = None if last else stop.signal
                    break
        decoder.tell_total()
        return self.validation

    def _patience_is_spent(self) -> bool:
        # An earlier stage has another behind it, which may well improve what this one cannot.
        patience = self.recipe.early_stopping_patience
        in_last_stage = self.recipe.stage_at(self.step - 1)[0] is self.recipe.stages[-1]
        return patience is not None and in_last_stage and self.validations_since_best >= patience

    def _progress(self, stage: Stage, loss: float) -> Progress:
        watch = self.stopwatch
        return Progress(
            self.step,
            self.recipe.total_steps,
            stage.name,
            loss,
            watch.pictures_per_second,
            watch.bound,
            self.validation,
        )

    def _train_step(
        self, batch: Batch, stage: Stage, within: int, alarm: CollapseAlarm
    ) -> tuple[float, dict[str, float]]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(stage, within)
            group["weight_decay"] = stage.weight_decay
        # Some losses and miners draw at random; from the step alone, so that a resumed run repeats.
        torch.manual_seed(self.recipe.seed * SEED_STRIDE + self.step)
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
        found = self.validation[SELECTION]
        # Patience counts what has become no better; on a tie the later weights are still kept.
        self.validations_since_best = 0 if found < self.best else self.validations_since_best + 1
        if found <= self.best:
            self.best = found
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
            selection={
                "best": self.best,
                "validations_since_best": float(self.validations_since_best),
            },
        )

    def _row(self, stage: Stage, parts: Mapping[str, float]) -> dict[str, Any]:
        return {
            "step": self.step,
            "stage": stage.name,
            "pictures_per_second": round(self.stopwatch.pictures_per_second, 1),
            "waiting_share": round(self.stopwatch.waiting_share, 3),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **{name: round(value, 5) for name, value in parts.items()},
            **self.validation,
        }
