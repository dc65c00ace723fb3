"""Bootstrap over people: whole subjects are drawn, since comparisons of one are alike.

Bolle, Ratha and Pankanti, "Error analysis of pattern recognition systems: the subsets bootstrap",
Computer Vision and Image Understanding 93, 2004. An interval for curves and composite figures; the
bound of an operating point uses the same variance in closed form (`limen.calibration.clusters`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.errors import CalibrationError


@dataclass(frozen=True, slots=True)
class PeopleDraws:
    """times: (draws, people), how often each is in a draw; number: (n,), whose a comparison is."""

    times: NDArray[np.int64]
    number: NDArray[np.int64]


def draw_people(subject: NDArray[np.int64], draws: int, rng: np.random.Generator) -> PeopleDraws:
    """Draws of as many people as there are, with replacement; their comparisons come whole.

    subject: (n,), whom a comparison belongs to. CalibrationError for fewer than two people.
    """
    people, number = np.unique(subject, return_inverse=True)
    if len(people) < 2 or draws < 1:
        raise CalibrationError(
            f"a bootstrap over people needs two of them and one draw, found {len(people)} and {draws}"
        )
    times = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), draws)
    return PeopleDraws(times, number)


def rate_interval(
    hit: NDArray[np.bool_],
    subject: NDArray[np.int64],
    confidence: float,
    rng: np.random.Generator,
    draws: int = 1000,
) -> tuple[float, float]:
    """Two-sided percentile interval of the share of hits, (n,), people drawn whole."""
    drawn = draw_people(subject, draws, rng)
    comparisons, hits = np.bincount(drawn.number), np.bincount(drawn.number, hit)
    rates = (drawn.times @ hits) / (drawn.times @ comparisons)
    tail = (1 - confidence) / 2
    return float(np.quantile(rates, tail)), float(np.quantile(rates, 1 - tail))


def interval(
    figure: Callable[[NDArray[np.int64]], float],
    subject: NDArray[np.int64],
    confidence: float,
    rng: np.random.Generator,
    draws: int = 200,
) -> tuple[float, float]:
    """Two-sided percentile interval of any figure of the rows it is given.

    figure: takes row numbers, with repetitions. Draws for which it raises CalibrationError, such as
    an empty class, are left out; CalibrationError where all are.
    """
    people, number = np.unique(subject, return_inverse=True)
    rows = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    found = []
    for _ in range(draws):
        drawn = rng.integers(0, len(people), len(people))
        try:
            found.append(figure(np.concatenate([rows[person] for person in drawn])))
        except CalibrationError:
            continue
    if not found:
        raise CalibrationError("no draw of people allowed the figure to be computed")
    tail = (1 - confidence) / 2
    return float(np.quantile(found, tail)), float(np.quantile(found, 1 - tail))


def det_band(
    mated: NDArray[np.float32],
    mated_subject: NDArray[np.int64],
    non_mated: NDArray[np.float32],
    stranger: NDArray[np.int64],
    fmr_levels: NDArray[np.float64],
    confidence: float,
    rng: np.random.Generator,
    draws: int = 200,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The band of FNMR at each FMR level, both (k,): strangers and subjects are drawn, each whole.

    fmr_levels: (k,), each more than 0 and less than 1. With few enrolled people the band is that of
    a handful of faces, and wide for good reason.
    """
    levels = np.asarray(fmr_levels, np.float64)
    strangers = draw_people(stranger, draws, rng)
    totals = strangers.times @ np.bincount(strangers.number)
    # Twice the share that is asked for: a draw may hold a stranger who fills the tail twice.
    kept = min(len(non_mated), int(np.ceil(2 * levels.max() * len(non_mated))) + 1)
    top = np.argpartition(-non_mated, kept - 1)[:kept]
    top = top[np.argsort(-non_mated[top], kind="stable")]
    ordered, who = non_mated[top], strangers.number[top]
    rising = np.argsort(mated, kind="stable")
    sorted_mated = mated[rising]
    if len(np.unique(mated_subject)) > 1:
        people = draw_people(mated_subject, draws, rng)
        weights = people.times[:, people.number[rising]]
    else:
        weights = np.ones((draws, len(mated)), np.int64)
    drawn = []
    for times, total, weight in zip(strangers.times, totals, weights, strict=True):
        share = np.cumsum(times[who]) / total
        rejected = np.minimum(np.searchsorted(share, levels, side="right"), len(ordered) - 1)
        below = np.concatenate([[0], np.cumsum(weight)]) / weight.sum()
        drawn.append(below[np.searchsorted(sorted_mated, ordered[rejected], side="right")])
    tail = (1 - confidence) / 2
    return np.quantile(drawn, tail, axis=0), np.quantile(drawn, 1 - tail, axis=0)
