"""One step of training: network, losses, optimiser and average, on one process or on many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from limen.train.batches import Batch
from limen.train.collapse import CollapseAlarm, Spread, TrainingError
from limen.train.networks.embedder import EmbedderNetwork
from limen.train.objectives.build import Curriculum
from limen.train.ranks import ALONE, Ranks
from limen.train.recipe import Recipe
from limen.train.run_folder import LAST
from limen.train.schedule import averaging, fade, learning_rate
from limen.train.validation import to_input

SEED_STRIDE = 100_000_000  # more steps than a recipe can have
MAX_GRADIENT_NORM = 5.0


@dataclass(frozen=True, slots=True)
class Step:
    """What came of a step: the loss, its weighted terms, and the embeddings' spread.

    asked_to_stop: whether any process was told to stop before the step.
    """

    loss: float
    parts: Mapping[str, float]
    spread: Spread
    asked_to_stop: bool


class Learner:
    """Takes the steps of a recipe.

    wrap: what makes the network's gradients those of all processes (DistributedDataParallel); each
    of them is given its rows of the batch, and computes the loss of all.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: EmbedderNetwork,
        teachers: Mapping[str, Tensor],
        classes: int,
        ranks: Ranks = ALONE,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        self.recipe, self.ranks = recipe, ranks
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedModel(
            network, multi_avg_fn=averaging(recipe.ema_decay), use_buffers=True
        )
        self.curriculum = Curriculum(
            [stage.objectives for stage in recipe.stages],
            list(teachers),
            classes,
            recipe.model.embedding_size,
            recipe.seed,
            ranks,
        )
        self._alarms = [CollapseAlarm(terms) for terms in self.curriculum.stages]
        self._teachers = teachers
        self._forward = wrap(network)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        for name, weights in self.curriculum.own_weights.items():
            self.optimizer.add_param_group({"params": [weights], "own": name, "weight_decay": 0.0})

    @property
    def averaged_network(self) -> EmbedderNetwork:
        """The weights' moving average, which is validated and shipped."""
        network = self.averaged.module
        assert isinstance(network, EmbedderNetwork)
        return network

    def take(self, batch: Batch, number: int, asked_to_stop: bool = False) -> Step:
        """Take the 0-based step `number` on this process's rows of its batch.

        TrainingError where the loss is not a number, CollapsedError on a collapse; both on every
        process.
        """
        recipe, ranks = self.recipe, self.ranks
        stage = recipe.stage_number(number)
        self._set_rates(stage, number)
        # Some losses and miners draw at random; from the step alone, so that a resumed run repeats.
        torch.manual_seed(recipe.seed * SEED_STRIDE + number)
        amount = fade(recipe, number)
        self._forward.train()
        self.network.set_fade(amount)
        embeddings = ranks.gather_embeddings(self._forward(to_input(batch.crops)))
        identity, index, stop = self._gathered(batch, asked_to_stop)
        teachers = {name: rows[index] for name, rows in self._teachers.items()}
        parts = {
            term.name: term(embeddings, identity, teachers)
            for term in self.curriculum.stages[stage]
        }
        total = torch.stack(list(parts.values())).sum()
        if not torch.isfinite(total):
            raise TrainingError(
                f"the loss is not a number at step {number}: lower the learning rate; the last "
                f"checkpoint ('{LAST}' in the run's folder) is whole"
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        ranks.average_gradients(self.curriculum.own_weights.values())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.averaged.update_parameters(self.network)
        self.averaged_network.set_fade(amount)
        values = {name: float(value.detach()) for name, value in parts.items()}
        spread = self._alarms[stage].check(embeddings, identity, values)
        return Step(float(total.detach()), values, spread, stop)

    def _gathered(self, batch: Batch, asked_to_stop: bool) -> tuple[Tensor, Tensor, bool]:
        """Identity and index of the whole batch, and whether any process is to stop."""
        identity, index = torch.from_numpy(batch.identity), torch.from_numpy(batch.index)
        if self.ranks.size == 1:
            return identity, index, asked_to_stop
        stop = torch.full_like(identity, int(asked_to_stop))
        rows = self.ranks.gather(torch.stack([identity, index, stop], 1))
        return rows[:, 0].contiguous(), rows[:, 1].contiguous(), bool(rows[:, 2].any())

    def _set_rates(self, stage: int, number: int) -> None:
        settings = self.recipe.stages[stage]
        rate = learning_rate(settings, self.recipe.stage_at(number)[1])
        own = self.curriculum.rates(stage)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * own.get(group.get("own", ""), 1.0)
            if "own" not in group:
                group["weight_decay"] = settings.weight_decay

    def optimizer_state(self) -> dict[str, Any]:
        """The optimiser's state; the rows of all processes where weights are sharded."""
        return self._laid_out(self.optimizer.state_dict(), self.ranks.whole)

    def load(
        self,
        weights: Mapping[str, Tensor],
        averaged: Mapping[str, Tensor],
        own: dict[str, Tensor],
        optimizer: dict[str, Any],
        step: int,
    ) -> None:
        """Go on from `step`; the optimiser's state as `optimizer_state` gave it."""
        self.network.load_state_dict(weights)
        self.averaged_network.load_state_dict(averaged)
        self.averaged.n_averaged.fill_(step)
        self.network.sync_fade()
        self.averaged_network.sync_fade()
        self.curriculum.load(own)
        self.optimizer.load_state_dict(self._laid_out(optimizer, self.ranks.own))

    def _laid_out(
        self, state: dict[str, Any], lay_out: Callable[[Tensor, Tensor], Tensor]
    ) -> dict[str, Any]:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        return {
            **state,
            "state": {
                number: {
                    name: lay_out(parameters[number], value) if value.ndim else value
                    for name, value in values.items()
                }
                for number, values in state["state"].items()
            },
        }
