"""False-match rates within and across groups of people, at one threshold, for the model card.

The pictures are of people nobody numbered, so every pair counts as non-mated: the same person twice
raises a rate, and no FNMR can be claimed. Pictures are resampled, not pairs, for the intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.calibration.rates import threshold_at_fmr
from limen.export.comparison import pairs_of
from limen.export.errors import ExportError
from limen.export.gate import HeldOut
from limen.export.groups import read_grouped_pictures

FMR = 1e-3  # of the threshold, on the gate's own pictures
LEAST_PICTURES = 50  # of a group; a smaller one is left out

EmbedCrops = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class GroupRate:
    """FMR of one group's pictures among themselves (`second` is `first`), or against another's."""

    attribute: str
    first: str
    second: str
    pictures: tuple[int, int]
    comparisons: int
    false_matches: int
    low: float
    high: float

    @property
    def fmr(self) -> float:
        """False matches by comparisons."""
        return self.false_matches / self.comparisons


@dataclass(frozen=True, slots=True)
class SetRates:
    """The rates of one folder of pictures."""

    name: str
    pictures: int
    duplicates: int
    rates: tuple[GroupRate, ...]


@dataclass(frozen=True, slots=True)
class Fairness:
    """FMR by group at `threshold`, where FMR is `fmr` on part `part`."""

    threshold: float
    fmr: float
    part: str
    sets: tuple[SetRates, ...]


def measure_fairness(
    folders: Sequence[Path], held_out: HeldOut, embed: EmbedCrops, seed: int
) -> Fairness:
    """Rates of `folders` (see `limen.export.groups`) at the threshold of the gate's pictures.

    embed: the default graph's embeddings of (n, px, px, 3) uint8 crops, on its runtime.
    ExportError where a folder cannot be used or the gate's pictures have no pairs of both kinds.
    """
    pairs = None if held_out.identity is None else pairs_of(held_out.identity)
    if pairs is None:
        raise ExportError(
            f"part '{held_out.part}' has no pairs of different people, from which the threshold of "
            "rates by group is taken: leave --groups out, or name a folder with more people"
        )
    scores = pairs.scores(embed(held_out.crops))
    threshold = float(threshold_at_fmr(scores[~pairs.mated], FMR))
    sets = []
    for number, folder in enumerate(folders):
        pictures = read_grouped_pictures(folder, held_out.crops.shape[1])
        embeddings = embed(pictures.crops)
        rng = np.random.default_rng([seed, 5, number])
        rates = [
            rate
            for attribute, values in pictures.groups.items()
            for rate in group_rates(embeddings, values, attribute, threshold, rng)
        ]
        sets.append(SetRates(pictures.name, len(pictures.crops), pictures.duplicates, tuple(rates)))
    return Fairness(threshold, FMR, held_out.part, tuple(sets))


def group_rates(
    embeddings: NDArray[np.float32],
    values: Sequence[str],
    attribute: str,
    threshold: float,
    rng: np.random.Generator,
    resamples: int = 500,
    confidence: float = 0.95,
) -> list[GroupRate]:
    """FMR within every group and across every two of `attribute`, groups in alphabetical order.

    embeddings: (n, D) of unit norm; values: n groups, '' for unknown; a group of fewer than
    LEAST_PICTURES is left out.
    """
    value = np.array(values)
    names = [
        str(name)
        for name, count in zip(*np.unique(value, return_counts=True), strict=True)
        if name and count >= LEAST_PICTURES
    ]
    rows = {name: np.flatnonzero(value == name) for name in names}
    draws = {name: _draws(len(rows[name]), resamples, rng) for name in names}
    found = []
    for i, first in enumerate(names):
        for second in names[i:]:
            left, right = embeddings[rows[first]], embeddings[rows[second]]
            hits = (left @ right.T >= threshold).astype(np.float32)
            within = first == second
            if within:
                np.fill_diagonal(hits, 0)
            rates = _resampled(hits, draws[first], draws[second], within)
            tail = (1 - confidence) / 2
            n, m = len(left), len(right)
            found.append(
                GroupRate(
                    attribute=attribute,
                    first=first,
                    second=second,
                    pictures=(n, m),
                    comparisons=n * (n - 1) // 2 if within else n * m,
                    false_matches=round(float(hits.sum(dtype=np.float64)) / (2 if within else 1)),
                    low=float(np.quantile(rates, tail)),
                    high=float(np.quantile(rates, 1 - tail)),
                )
            )
    return found


def _draws(pictures: int, resamples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """How often each picture is in each resample, (pictures, resamples)."""
    drawn = rng.multinomial(pictures, np.full(pictures, 1 / pictures), resamples)
    return np.asarray(drawn.T, np.float32)


def _resampled(
    hits: NDArray[np.float32], left: NDArray[np.float32], right: NDArray[np.float32], within: bool
) -> NDArray[np.float64]:
    """The rate of each resample, (resamples,). A picture drawn twice is not compared with itself."""
    matches = np.einsum("nr,nr->r", left, hits @ right, dtype=np.float64)
    pairs = left.sum(0, dtype=np.float64) * right.sum(0, dtype=np.float64)
    if within:
        pairs -= (left.astype(np.float64) ** 2).sum(0)
    return np.asarray(matches / pairs, np.float64)
