"""Entering a stage that trains for int8: ranges observed once, then every pass simulated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from limen.errors import ConfigError
from limen.train.decoding import SoundDecoder
from limen.train.networks.blocks import FadingReLU
from limen.train.networks.embedder import EmbedderNetwork
from limen.train.quantisation.settings import Quantisation
from limen.train.validation import to_input

# As in post-training quantisation: a range is the mean of the extremes of groups of crops.
OBSERVED_GROUP = 16


def enter_stage(
    settings: Quantisation | None,
    network: EmbedderNetwork,
    averaged: EmbedderNetwork,
    decoder: SoundDecoder,
    seed: int,
) -> None:
    """Make both networks compute as the stage's `settings` say; None is float.

    Ranges are observed where there are none yet: on pictures drawn by `seed` without augmentation,
    through `averaged`, so that every process of a run finds the same. Called at each step, it does
    nothing then but set switches. ConfigError where a warm start's slopes have not faded out.
    """
    for one in (network, averaged):
        if one.simulation is not None:
            one.simulation.is_active = settings is not None
            one.simulation.learns = settings is not None and settings.learn_ranges
    if settings is None:
        return
    simulation, average = network.add_simulation(), averaged.add_simulation()
    if simulation.is_set:
        return
    _check_plain(network)
    count = min(settings.observed_crops, len(decoder.pictures))
    chosen = np.random.default_rng([seed, 5]).choice(len(decoder.pictures), count, replace=False)
    average.observe(averaged, _batches(decoder, chosen))
    simulation.load_state_dict(average.state_dict())


def _batches(decoder: SoundDecoder, chosen: NDArray[np.int64]) -> Iterator[Tensor]:
    for start in range(0, len(chosen), OBSERVED_GROUP):
        some = chosen[start : start + OBSERVED_GROUP]
        yield to_input(np.stack([decoder.decode(int(index))[1] for index in some]))


def _check_plain(network: EmbedderNetwork) -> None:
    if any(isinstance(m, FadingReLU) and not m.is_plain for m in network.modules()):
        raise ConfigError(
            "a stage with quantisation begins while PReLU slopes are still fading: int8 has plain "
            "ReLU only. Give the stages before it more steps than fade_steps"
        )
