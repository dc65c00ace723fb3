"""The training loop: a recipe and pictures in, checkpoints and error rates out."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from limen.errors import ConfigError, LimenError
from limen.train.batches import Batch, PKSampler, UnlabelledSampler, batches
from limen.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from limen.train.checkpoint_file import CheckpointError
from limen.train.collapse import TrainingError
from limen.train.decoding import SoundDecoder
from limen.train.interruption import stop_on_signals
from limen.train.journal import Journal
from limen.train.launch import Processes
from limen.train.learner import Learner, Step
from limen.train.networks.embedder import EmbedderNetwork
from limen.train.pictures import Pictures
from limen.train.quantisation.stage import enter_stage
from limen.train.recipe import Recipe, Stage
from limen.train.run_folder import BEST, LAST, hold
from limen.train.stopwatch import Stopwatch
from limen.train.validation import validate

log = logging.getLogger(__name__)

SELECTION = "fnmr_at_fmr_1e-3"
LOG_EVERY_STEPS = 20


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


class Trainer:
    """Runs a recipe. `network` sets the start: fresh, or warm from slimming.

    processes: that share the run; each of them has a Trainer of its own, and the first writes.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: EmbedderNetwork,
        fit: Pictures,
        choose: Pictures | None,
        out: Path,
        provenance: dict[str, Any],
        workers: int = 1,
        processes: Processes | None = None,
    ) -> None:
        processes = processes or Processes()
        self.recipe = recipe
        if recipe.quantises:
            network.add_simulation()
        self.network = network
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
        self._ranks = processes.ranks
        if recipe.early_stopping_patience is not None and choose is None:
            raise ConfigError(
                "the recipe stops early on validation, but the folder has no pictures to validate "
                "on: leave early_stopping_patience out, or add identities"
            )
        shape = recipe.batch
        self._labelled = PKSampler(fit, shape.identities, shape.per_identity, recipe.seed)
        self._unlabelled = UnlabelledSampler(fit, shape.unlabelled, recipe.seed)
        size = len(self._labelled) + shape.unlabelled
        if size % self._ranks.size:
            raise ConfigError(
                f"{size} pictures a step cannot be split over {self._ranks.size} processes: change "
                "[batch], or the number of processes"
            )
        # All at once, so that a missing teacher is told before an hour is spent.
        teachers = {name: torch.from_numpy(rows) for name, rows in fit.teachers.items()}
        self.learner = Learner(
            recipe, network, teachers, len(fit.names), self._ranks, processes.wrap
        )

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes, and talks to the user."""
        return self._ranks.leads

    @property
    def processes(self) -> int:
        """How many processes share the run."""
        return self._ranks.size

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe, from however many processes.

        CheckpointError where it is of another recipe.
        """
        saved = load_checkpoint(path)
        if saved.recipe != self.recipe:
            raise CheckpointError(
                f"{path} was made by another recipe: name another --out, or the old recipe"
            )
        assert saved.optimizer is not None
        self.learner.load(
            saved.weights, saved.averaged, saved.own_weights, saved.optimizer, saved.step
        )
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

    def run(self, report: Callable[[Progress], None] = lambda _: None) -> dict[str, float]:
        """Train to the recipe's end and return the last validation.

        SIGINT and SIGTERM end it after the step at hand with a checkpoint (`interrupted_by`);
        so does the recipe's early stopping (`stopped_early`). RunFolderError where another
        process writes to the folder, CheckpointWriteError where the disk is full, TrainingError
        where a process of the run is lost or the embeddings collapse; the last checkpoint is whole.
        """
        recipe = self.recipe
        decoder = SoundDecoder(self.fit, recipe.input_px)
        source = batches(
            self._labelled,
            decoder,
            recipe.augmentation_at,
            recipe.seed,
            range(self.step, recipe.total_steps),
            unlabelled=self._unlabelled,
            workers=self._workers,
            ranks=self._ranks,
        )
        with self._journal() as journal, stop_on_signals() as stop:
            for batch in self.stopwatch.waiting(source):
                stage, _ = recipe.stage_at(self.step)
                enter_stage(
                    stage.quantisation,
                    self.network,
                    self.learner.averaged_network,
                    decoder,
                    recipe.seed,
                )
                step = self._take(batch, bool(stop))
                self.step += 1
                self.stopwatch.computed(len(batch.index) * self._ranks.size)
                last = self.step == recipe.total_steps
                if last or self.step % recipe.validate_every_steps == 0:
                    self._validate()
                    self.stopped_early = self._patience_is_spent() and not last
                # Over several processes, all must end at one step: at what they told each other.
                stopping = bool(stop) if self._ranks.size == 1 else step.asked_to_stop
                ending = last or self.stopped_early or stopping
                if ending or self.step % recipe.checkpoint_every_steps == 0:
                    self._save(LAST)
                if journal is not None and (ending or self.step % LOG_EVERY_STEPS == 0):
                    journal.write(self._row(stage, step))
                report(self._progress(stage, step.loss))
                if ending:
                    self.interrupted_by = None if last else self._signal(stop.signal, stopping)
                    break
        decoder.tell_total()
        return self.validation

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        """The run's folder, held, and its journal, where this process is the one that writes."""
        if not self.leads:
            yield None
            return
        with hold(self.out), Journal(self.out, self.step) as journal:
            yield journal

    def _take(self, batch: Batch, asked_to_stop: bool) -> Step:
        try:
            return self.learner.take(batch, self.step, asked_to_stop)
        except RuntimeError as error:
            if self._ranks.size == 1 or isinstance(error, LimenError):
                raise
            raise TrainingError(
                f"step {self.step}: the other processes cannot be reached ({error}); one of them "
                f"was probably killed. Start the same command with --resume: {self.out / LAST} is "
                "the last checkpoint"
            ) from error

    def _signal(self, own: signal.Signals | None, stopping: bool) -> signal.Signals | None:
        # Another process was told to stop; this one ends as if it had been.
        return own or (signal.SIGTERM if stopping else None)

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

    def _validate(self) -> None:
        if self.choose is None:
            return
        network, px = self.learner.averaged_network, self.recipe.input_px
        self.validation = validate(network, self.choose, px, self._ranks)
        found = self.validation[SELECTION]
        # Patience counts what has become no better; on a tie the later weights are still kept.
        self.validations_since_best = 0 if found < self.best else self.validations_since_best + 1
        if found <= self.best:
            self.best = found
            self._save(BEST)

    def _save(self, name: str) -> None:
        """LAST holds all that a run needs to go on, BEST what ships."""
        going_on = name == LAST
        # Gathering sharded weights takes every process, writing them only one.
        optimizer = self.learner.optimizer_state() if going_on else None
        own_weights = self.learner.curriculum.saved() if going_on else {}
        if not self.leads:
            return
        checkpoint = Checkpoint(
            recipe=self.recipe,
            step=self.step,
            channels=self.network.channels,
            weights=self.network.state_dict() if going_on else {},
            averaged=self.learner.averaged_network.state_dict(),
            optimizer=optimizer,
            provenance=self.provenance,
            validation=self.validation,
            selection={
                "best": self.best,
                "validations_since_best": float(self.validations_since_best),
            },
            own_weights=own_weights,
        )
        save_checkpoint(self.out / name, checkpoint)

    def _row(self, stage: Stage, step: Step) -> dict[str, Any]:
        return {
            "step": self.step,
            "stage": stage.name,
            "pictures_per_second": round(self.stopwatch.pictures_per_second, 1),
            "waiting_share": round(self.stopwatch.waiting_share, 3),
            "learning_rate": self.learner.optimizer.param_groups[0]["lr"],
            "loss": round(step.loss, 5),
            **{name: round(value, 5) for name, value in step.parts.items()},
            "non_mated_cosine": round(step.spread.non_mated_cosine, 5),
            "spread": round(step.spread.spread, 5),
            **self.validation,
        }
