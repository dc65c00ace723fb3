"""The finder's training loop: labelled pictures and a recipe in, checkpoints out."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from limen.errors import LimenError
from limen.files import write_atomically
from limen.train.finder.evaluation import evaluate_scenes
from limen.train.finder.network import FinderNetwork, flatten
from limen.train.finder.recipe import FinderRecipe
from limen.train.finder.scenes import Source, compose
from limen.train.finder.targets import FinderLoss, Targets, assign, grid
from limen.train.schedule import averaging
from limen.train.trainer import Progress
from limen.train.validation import to_input

LAST, BEST, LOG = "finder-last.pt", "finder-best.pt", "finder-log.jsonl"
SELECTION = "score"
SCHEMA_VERSION = 1
AHEAD = 6
VALIDATION_SCENES = 400
VALIDATION_PX = (256, 320)


class FinderCheckpointError(LimenError, ValueError):
    """A finder's checkpoint cannot be read, or belongs to another recipe."""


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
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.fit, self.held_out, self.out = recipe, fit, held_out, out
        self.provenance = provenance
        self.network = FinderNetwork(recipe.channels).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedModel(
            self.network, multi_avg_fn=averaging(recipe.ema_decay), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.step, self.best = 0, -math.inf
        self.validation: dict[str, float] = {}
        self._workers = workers
        self._grids = {side: grid(side, side) for side in set(recipe.scenes_px)}
        self._loss = FinderLoss(recipe.box_weight, recipe.landmark_weight)

    def run(self, report: Callable[[Progress], None] = lambda _: None) -> dict[str, float]:
        """Train to the recipe's end and return the last validation."""
        recipe = self.recipe
        started, seen = time.monotonic(), 0
        for batch in self._batches(range(self.step, recipe.steps)):
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate(self.step)
            self.network.train()
            outputs = flatten(self.network(to_input(batch.images)))
            centres, strides = (torch.from_numpy(a) for a in self._grids[batch.images.shape[1]])
            parts = self._loss(*outputs, _stack(batch.targets), centres, strides)
            total = torch.stack(list(parts.values())).sum()
            if not torch.isfinite(total):
                raise FinderCheckpointError(
                    f"the loss is not a number at step {self.step}: lower the learning rate; "
                    f"the last checkpoint is {self.out / LAST}"
                )
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(total)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimizer.step()
            self.averaged.update_parameters(self.network)
            self.step += 1
            seen += len(batch.images)
            last = self.step == recipe.steps
            if self.held_out and (last or self.step % recipe.validate_every_steps == 0):
                self._validate(self.held_out)
            if last or self.step % recipe.checkpoint_every_steps == 0:
                self.save(self.out / LAST, with_optimizer=True)
            rate = seen / (time.monotonic() - started)
            if last or self.step % 20 == 0:
                self._log({name: float(value.detach()) for name, value in parts.items()}, rate)
            loss = float(total.detach())
            report(Progress(self.step, recipe.steps, "finder", loss, rate, "", self.validation))
        return self.validation

    def _learning_rate(self, step: int) -> float:
        recipe = self.recipe
        if step < recipe.warmup_steps:
            return recipe.learning_rate * (step + 1) / recipe.warmup_steps
        done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
        low = min(recipe.final_learning_rate, recipe.learning_rate)
        return low + (recipe.learning_rate - low) * (1 + math.cos(math.pi * done)) / 2

    def _batches(self, steps: range) -> Iterator[FinderBatch]:
        """One batch a step, made ahead on other threads, from the seed and the step alone."""

        def make(step: int) -> FinderBatch:
            rng = np.random.default_rng([self.recipe.seed, step])
            side = self.recipe.scenes_px[step % len(self.recipe.scenes_px)]
            settings = self.recipe.scenes(side, side)
            scenes = [compose(self.fit, settings, rng) for _ in range(self.recipe.batch)]
            targets = [
                assign(s.boxes_xyxy, s.landmarks_xy, s.ignored_xyxy, *self._grids[side])
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
        network = self.averaged.module
        assert isinstance(network, FinderNetwork)
        self.validation = evaluate_scenes(
            network, held_out, self.recipe.scenes(*VALIDATION_PX), VALIDATION_SCENES
        )
        if self.validation[SELECTION] >= self.best:
            self.best = self.validation[SELECTION]
            self.save(self.out / BEST, with_optimizer=False)

    def save(self, path: Path, with_optimizer: bool) -> None:
        """Write a checkpoint; after an interruption `path` holds the old one or the new one."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "recipe": self.recipe.model_dump_json(),
            "step": self.step,
            "weights": self.network.state_dict() if with_optimizer else {},
            "averaged": self.averaged.module.state_dict(),
            "optimizer": self.optimizer.state_dict() if with_optimizer else None,
            "provenance": json.dumps(self.provenance),
            "validation": self.validation,
        }
        with write_atomically(path) as file:
            torch.save(content, file)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe. FinderCheckpointError otherwise."""
        content = _load(path)
        if FinderRecipe.model_validate_json(content["recipe"]) != self.recipe:
            raise FinderCheckpointError(
                f"{path} was made by another recipe: name another --out, or the old recipe"
            )
        self.network.load_state_dict(content["weights"])
        self.averaged.module.load_state_dict(content["averaged"])
        self.averaged.n_averaged.fill_(content["step"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.validation = content["step"], content["validation"]
        if (self.out / BEST).exists():
            self.best = _load(self.out / BEST)["validation"].get(SELECTION, -math.inf)

    def _log(self, parts: dict[str, float], rate: float) -> None:
        row = {"step": self.step, "scenes_per_second": round(rate, 1), **parts, **self.validation}
        rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}
        with (self.out / LOG).open("a") as file:
            file.write(json.dumps(rounded) + "\n")


def load_finder(path: Path) -> tuple[FinderNetwork, dict[str, Any]]:
    """The averaged network in evaluation mode, and what the checkpoint says of it."""
    content = _load(path)
    network = FinderNetwork(FinderRecipe.model_validate_json(content["recipe"]).channels)
    network.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in content["averaged"].items()}
    )
    provenance = {
        "recipe": json.loads(content["recipe"]),
        "step": content["step"],
        "validation": content["validation"],
        **json.loads(content["provenance"]),
    }
    return network.eval(), provenance


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if content["schema_version"] != SCHEMA_VERSION:
            raise FinderCheckpointError(f"{path}: a finder of another schema than {SCHEMA_VERSION}")
    except FinderCheckpointError:
        raise
    except FileNotFoundError as error:
        raise FinderCheckpointError(f"{path}: no checkpoint there") from error
    except Exception as error:  # torch.load raises whatever a damaged file provokes
        raise FinderCheckpointError(
            f"{path}: not a whole checkpoint of a finder ({type(error).__name__})"
        ) from error
    return content


def _stack(targets: list[Targets]) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(np.stack([t.kind for t in targets])),
        torch.from_numpy(np.stack([t.boxes_xyxy for t in targets])),
        torch.from_numpy(np.stack([t.landmarks_xy for t in targets])),
    )
