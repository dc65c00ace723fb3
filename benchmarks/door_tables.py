"""One method at one door, and the table over many, with standard errors over people."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from door_draws import Setup, Truth
from numpy.typing import NDArray

from limen.calibration.bounds import clopper_pearson
from limen.calibration.clusters import design_effect_of_counts

SIZES = ((3, 5), (6, 10), (11, 20), (21, 50))


@dataclass
class Measured:
    """One method at one door. hits: false matches a person of the part (people,)."""

    size: int
    people: NDArray[np.int64]
    fmr: float
    bound: float
    fnmr: float
    oracle_fnmr: float
    shown: bool
    hits: NDArray[np.int32] = field(repr=False)


def measure(
    truth: Truth, threshold: float, bound: float, door: Setup, oracle_fnmr: float, people: int
) -> Measured:
    fmr, fnmr, hits = truth.at(threshold, people)
    trials = np.bincount(truth.person, minlength=people) * truth.non_mated.shape[1]
    effect = design_effect_of_counts(hits[trials > 0].astype(np.int64), trials[trials > 0])
    low, _ = clopper_pearson(float(hits.sum()) / effect, truth.non_mated.size / effect, 0.9)
    return Measured(len(door.people), door.people, fmr, bound, fnmr, oracle_fnmr, low > bound, hits)


def summarise(measured: list[Measured], people: int, rng: np.random.Generator) -> list[dict]:
    """A row for each range of sizes and one for all, with standard errors over people."""
    rows = []
    for low, high in (*SIZES, (0, 10**9)):
        some = [m for m in measured if low <= m.size <= high]
        if not some:
            continue
        exceeds = np.array([m.fmr > m.bound for m in some])
        loss = np.array([m.fnmr - m.oracle_fnmr for m in some])
        ratio = np.array([m.fmr / m.bound for m in some])
        share_error, loss_error = _errors(some, loss, people, rng)
        rows.append(
            {
                "sizes": [low, high] if high < 10**9 else "all",
                "doors": len(some),
                "exceeds": float(exceeds.mean()),
                "exceeds_se": share_error,
                "shown": float(np.mean([m.shown for m in some])),
                "median_fmr": float(np.median([m.fmr for m in some])),
                "worst_fmr": float(max(m.fmr for m in some)),
                "median_ratio": float(np.median(ratio)),
                "fnmr": float(np.mean([m.fnmr for m in some])),
                "oracle_fnmr": float(np.mean([m.oracle_fnmr for m in some])),
                "fnmr_loss": float(loss.mean()),
                "fnmr_loss_se": loss_error,
                "loss_within_.03": float(np.mean(np.abs(loss) <= 0.03)),
            }
        )
    return rows


def _errors(
    some: list[Measured], loss: NDArray[np.float64], people: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Standard errors of the share that exceeds and of the mean loss, people drawn whole.

    A door counts as often as its people were drawn; the truth is of the drawn strangers.
    """
    hits = np.stack([m.hits for m in some]).astype(np.float64)
    enrolled = np.zeros((len(some), people))
    for row, m in enumerate(some):
        enrolled[row, m.people] = 1 / len(m.people)
    bounds = np.array([m.bound for m in some])
    fmr = np.array([m.fmr for m in some])
    total = hits.sum(1)
    trials = np.where(fmr > 0, total / np.maximum(fmr, 1e-12), 1.0)
    shares, losses = [], []
    for _ in range(200):
        times = rng.multinomial(people, np.full(people, 1 / people))
        weight = enrolled @ times
        if not weight.any():  # a handful of doors, none of whose people was drawn
            continue
        outside = (1 - (enrolled > 0)) @ times / (people - (enrolled > 0).sum(1))
        truth = (hits @ times) / (trials * outside)
        shares.append(np.average(truth > bounds, weights=weight))
        losses.append(np.average(loss, weights=weight))
    return float(np.std(shares)), float(np.std(losses))


def print_table(result: dict) -> None:
    print(
        "| method | FMR | gallery | doors | true FMR > bound | shown | median FMR | FNMR | oracle's | loss |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in result["rows"]:
        size = row["sizes"] if row["sizes"] == "all" else "{} to {}".format(*row["sizes"])
        print(
            f"| {row['method']} | {row['fmr']:.0e} | {size} | {row['doors']} "
            f"| {row['exceeds']:.3f} ± {row['exceeds_se']:.3f} | {row['shown']:.3f} "
            f"| {row['median_fmr']:.1e} | {row['fnmr']:.3f} | {row['oracle_fnmr']:.3f} "
            f"| {row['fnmr_loss']:+.3f} ± {row['fnmr_loss_se']:.3f} |"
        )
    print("refused:", result["refused"])
