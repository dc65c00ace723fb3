"""What changes with the step: the learning rate, a warm start's fade, the weights' average."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from limen.train.recipe import Recipe, Stage


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
