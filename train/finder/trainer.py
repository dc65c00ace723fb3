"""The finder's training loop: labelled pictures and a recipe in, checkpoints out."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from limen.anchors import cells
from limen.train.checkpoint_file import CheckpointError
from limen.train.collapse import TrainingError
from limen.train.finder.checkpoint import FinderCheckpoint, load_finder, save_finder
from limen.train.finder.evaluation import evaluate_scenes
from limen.train.finder.hard_cases import HardCases
from limen.train.finder.network import FinderNetwork, answers
from limen.train.finder.recipe import NOTHING_HARD, FinderRecipe
from limen.train.finder.scenes import compose
from limen.train.finder.source import Source
from limen.train.finder.targets import FinderLoss, Targets, assign
from limen.train.interruption import stop_on_signals
from limen.train.journal import Journal
from limen.train.run_folder import BEST, LAST, hold
from limen.train.schedule import averaging
from limen.train.stopwatch import Stopwatch
from limen.train.trainer import Progress
from limen.train.validation import to_input

SELECTION = "score"
AHEAD = 6
LOG_EVERY_STEPS = 20
VALIDATION_SCENES = 400
VALIDATION_PX = (256, 320)
STAGE = "finder"


@dataclass(frozen=True)
class FinderBatch:
    """images: (N, H, W, 3) uint8; targets: one for each of them."""

    images: NDArray[np.uint8]
    targets: list[Targets]


class FinderTrainer:
    """Runs a finder's recipe on `fit`, and looks at `held_out` now and then."""

    def __init__(
        self,
        recipe: FinderRecipe,
        fit: Source,
        held_out: Source | None,
        out: Path,
        provenance: dict[str, Any],
        workers: int = 1,
        hard: HardCases = NOTHING_HARD,
    ) -> None:
        """hard: of `fit`; how often they are shown is the recipe's."""
        torch.manual_seed(recipe.seed)
        self.hard = hard
        self.recipe, self.fit, self.held_out, self.out = recipe, fit, held_out, out
        self.provenance = provenance
        self.network = FinderNetwork(recipe.channels).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedModel(
            self.network, multi_avg_fn=averaging(recipe.ema_decay), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.step = 0
        self.best: float | None = None
        self.validation: dict[str, float] = {}
        self.interrupted_by: signal.Signals | None = None
        self.stopwatch = Stopwatch()
        self._workers = workers
        self._loss = FinderLoss(recipe.box_weight, recipe.landmark_weight, recipe.least_quality)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe. CheckpointError otherwise."""
        saved = load_finder(path)
        if saved.recipe != self.recipe:
            raise CheckpointError(
                f"{path} was made by another recipe: name another --out, or the old recipe"
            )
        if saved.optimizer is None:
            raise CheckpointError(
                f"{path} holds the averaged weights alone: nothing goes on from it"
            )
        self.network.load_state_dict(saved.weights)
        self.averaged_network.load_state_dict(saved.averaged)
        self.averaged.n_averaged.fill_(saved.step)
        self.optimizer.load_state_dict(saved.optimizer)
        self.step, self.validation, self.best = saved.step, saved.validation, saved.best

    def start_from(self, saved: FinderCheckpoint) -> None:
        """Take a checkpoint's averaged weights for the first ones."""
        state = saved.network().state_dict()
        self.network.load_state_dict(state)
        self.averaged_network.load_state_dict(state)

    @property
    def averaged_network(self) -> FinderNetwork:
        """The weights that are validated and exported."""
        network = self.averaged.module
        assert isinstance(network, FinderNetwork)
        return network

    def run(self, report: Callable[[Progress], None] = lambda _: None) -> dict[str, float]:
        """Train to the recipe's end and return the last validation.

        SIGINT and SIGTERM end it after the step at hand with a checkpoint (`interrupted_by`).
        TrainingError where the loss is not a number; RunFolderError where another process writes
        to the folder, CheckpointWriteError where the disk is full.
        """
        recipe = self.recipe
        with (
            hold(self.out),
            stop_on_signals() as stop,
            Journal(self.out, self.step) as journal,
        ):
            source = self._batches(range(self.step, recipe.steps))
            for batch in self.stopwatch.waiting(source):
                loss, parts = self._train_step(batch)
                self.step += 1
                self.stopwatch.computed(len(batch.images))
                last = self.step == recipe.steps
                if self.held_out and (last or self.step % recipe.validate_every_steps == 0):
                    self._validate(self.held_out)
                ending = last or bool(stop)
                if ending or self.step % recipe.checkpoint_every_steps == 0:
                    save_finder(self.out / LAST, self._checkpoint(with_optimizer=True))
                if ending or self.step % LOG_EVERY_STEPS == 0:
                    journal.write(self._row(parts))
                report(self._progress(loss))
                if ending:
                    self.interrupted_by = None if last else stop.signal
                    break
            source.close()
        return self.validation

    def _train_step(self, batch: FinderBatch) -> tuple[float, dict[str, float]]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate_at(self.step)
        side_px = batch.images.shape[1]
        centres, strides = (torch.from_numpy(part) for part in cells(side_px, side_px))
        self.network.train()
        found = answers(self.network(to_input(batch.images)))
        parts = self._loss(found, _stack(batch.targets), centres, strides)
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
        return float(total.detach()), {k: float(v.detach()) for k, v in parts.items()}

    def _batches(self, steps: range) -> Generator[FinderBatch]:
        """One batch a step, made ahead on other threads, from the seed and the step alone."""

        def make(step: int) -> FinderBatch:
            rng = np.random.default_rng([self.recipe.seed, step])
            side_px = self.recipe.scenes_px[step % len(self.recipe.scenes_px)]
            settings = self.recipe.scenes(side_px, side_px, self.hard)
            scenes = [compose(self.fit, settings, rng) for _ in range(self.recipe.batch)]
            targets = [
                assign(s.boxes_xyxy, s.landmarks_xy, s.ignored_xyxy, *cells(side_px, side_px))
                for s in scenes
            ]
            return FinderBatch(np.stack([s.image for s in scenes]), targets)

        waiting: deque[Future[FinderBatch]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="scenes") as pool:
            try:
                for step in steps:
                    waiting.append(pool.submit(make, step))
                    if len(waiting) > AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _validate(self, held_out: Source) -> None:
        self.validation = evaluate_scenes(
            self.averaged_network, held_out, self.recipe.scenes(*VALIDATION_PX), VALIDATION_SCENES
        )
        found = self.validation[SELECTION]
        if self.best is None or found >= self.best:
            self.best = found
            save_finder(self.out / BEST, self._checkpoint(with_optimizer=False))

    def _checkpoint(self, with_optimizer: bool) -> FinderCheckpoint:
        return FinderCheckpoint(
            recipe=self.recipe,
            step=self.step,
            weights=self.network.state_dict() if with_optimizer else {},
            averaged=self.averaged_network.state_dict(),
            optimizer=self.optimizer.state_dict() if with_optimizer else None,
            provenance=self.provenance,
            validation=self.validation,
            best=self.best,
        )

    def _row(self, parts: dict[str, float]) -> dict[str, Any]:
        return {
            "step": self.step,
            "scenes_per_second": round(self.stopwatch.pictures_per_second, 1),
            "waiting_share": round(self.stopwatch.waiting_share, 3),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **{f"{name}_loss": round(value, 5) for name, value in parts.items()},
            **self.validation,
        }

    def _progress(self, loss: float) -> Progress:
        return Progress(
            self.step,
            self.recipe.steps,
            STAGE,
            loss,
            self.stopwatch.pictures_per_second,
            self.stopwatch.bound,
            self.validation,
        )


def _stack(targets: list[Targets]) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(np.stack([t.kind for t in targets])),
        torch.from_numpy(np.stack([t.boxes_xyxy for t in targets])),
        torch.from_numpy(np.stack([t.landmarks_xy for t in targets])),
    )
