"""Open-set identification: a probe against everybody enrolled (ISO/IEC 19795-1, FPIR and FNIR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.bounds import predicted_errors
from limen.calibration.clusters import ALLOWANCE, design_effect
from limen.calibration.fusion import fuse, fused_probes
from limen.errors import CalibrationError


def fpir(non_mated_scores: NDArray[np.float32], threshold: float) -> float:
    """Share of probes of people who are not enrolled that match anybody.

    non_mated_scores: (probes, subjects), both 1 or more. False positive identification rate.
    """
    return float(np.mean(_checked(non_mated_scores).max(1) >= threshold))


def fnir(
    scores: NDArray[np.float32], mate: NDArray[np.int64], threshold: float, rank: int = 1
) -> float:
    """Share of enrolled people's probes whose own subject is not a match among the best `rank`.

    scores: (probes, subjects); mate: (probes,), the column that is the probe's own. A subject that
    ties with the mate is placed before it, so that a tie never helps. False negative identification
    rate, rank and threshold together.
    """
    values = _checked(scores)
    if mate.shape != values.shape[:1] or not 1 <= rank <= values.shape[1]:
        raise CalibrationError(
            f"expected one mate a probe and a rank from 1 to {values.shape[1]}, "
            f"found {len(mate)} for {len(values)} and {rank}"
        )
    own = values[np.arange(len(values)), mate]
    place = (values >= own[:, None]).sum(1)
    return float(np.mean((own < threshold) | (place > rank)))


def independent_fpir(fmr: float, subjects: int) -> float:
    """1 - (1 - FMR)^N: the FPIR if comparisons with N subjects were independent.

    They are not, since a stranger who resembles one resembles another: the measured rate is mostly
    lower, and far off it something is wrong.
    """
    return float(-np.expm1(subjects * np.log1p(-fmr))) if fmr < 1 else 1.0


@dataclass(frozen=True, slots=True)
class SizedRate:
    """FPIR at one gallery size: measured, with its bound, and as if independent.

    threshold_kept: the threshold at which the FPIR would be what it is at the present size.
    """

    subjects: int
    fpir: float
    fpir_upper_bound: float
    independent: float
    threshold_kept: float


def what_if(
    templates: NDArray[np.float32],
    cohort: NDArray[np.float32],
    cohort_subject: NDArray[np.int64],
    threshold: float,
    sizes: Sequence[int],
    *,
    confidence: float,
    rng: np.random.Generator,
    shots: int = 3,
    probe_frames: int = 1,
    draws: int = 5,
) -> list[SizedRate]:
    """FPIR as people are added, with strangers of the cohort standing in for them.

    templates: (N, D), the people enrolled; sizes: gallery sizes; those below N take some of the
    people, those above N add cohort people with up to `shots` pictures each, while the rest of the
    cohort are the probes. Averaged over `draws` random choices of people.
    CalibrationError where the cohort has too few people for the largest size: half of it must
    remain as strangers.
    """
    people = np.unique(cohort_subject)
    room = len(templates) + len(people) // 2
    if not sizes or min(sizes) < 1 or max(sizes) > room:
        raise CalibrationError(
            f"what-if: expected gallery sizes from 1 to {room} (this gallery and half of the "
            f"cohort's {len(people)} people), found {max(sizes, default=0)}"
        )
    fmr_at_size: dict[int, list[float]] = {size: [] for size in sizes}
    best_at_size: dict[int, list[tuple[NDArray[np.float32], NDArray[np.int64]]]] = {
        size: [] for size in sizes
    }
    for _ in range(draws):
        drawn = rng.permutation(people)
        added = drawn[: max(0, max(sizes) - len(templates))]
        joined = np.concatenate(
            [
                templates[rng.permutation(len(templates))],
                _stand_ins(cohort, cohort_subject, added, shots),
            ]
        )
        rest = ~np.isin(cohort_subject, added)
        probes, who = fused_probes(cohort[rest], cohort_subject[rest], probe_frames)
        scores = probes @ joined.T
        highest = np.maximum.accumulate(scores, axis=1)
        for size in sizes:
            best_at_size[size].append((highest[:, size - 1], who))
            fmr_at_size[size].append(float((scores[:, :size] >= threshold).mean()))
    present = _mean_rate(
        [fpir_of(best, threshold) for best, _ in best_at_size[_nearest(sizes, len(templates))]]
    )
    return [
        _sized(size, best_at_size[size], fmr_at_size[size], threshold, present, confidence)
        for size in sizes
    ]


def fpir_of(best: NDArray[np.float32], threshold: float) -> float:
    """Share of best scores, (n,), that reach the threshold."""
    return float(np.mean(best >= threshold))


def _sized(
    size: int,
    draws: list[tuple[NDArray[np.float32], NDArray[np.int64]]],
    fmrs: list[float],
    threshold: float,
    present: float,
    confidence: float,
) -> SizedRate:
    rates, bounds, thresholds = [], [], []
    for best, who in draws:
        hit = best >= threshold
        effect = design_effect(hit, who)
        found = float(predicted_errors(hit.sum() / effect, confidence))
        rates.append(float(hit.mean()))
        bounds.append(min(1.0, ALLOWANCE * found * effect / len(hit)))
        thresholds.append(float(np.quantile(best, 1 - max(present, 1 / len(best)))))
    return SizedRate(
        subjects=size,
        fpir=_mean_rate(rates),
        fpir_upper_bound=_mean_rate(bounds),
        independent=independent_fpir(_mean_rate(fmrs), size),
        threshold_kept=_mean_rate(thresholds),
    )


def _stand_ins(
    cohort: NDArray[np.float32],
    cohort_subject: NDArray[np.int64],
    added: NDArray[np.int64],
    shots: int,
) -> NDArray[np.float32]:
    if len(added) == 0:
        return np.zeros((0, cohort.shape[1]), np.float32)
    rows = [np.flatnonzero(cohort_subject == person)[:shots] for person in added]
    number = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    return fuse(cohort[np.concatenate(rows)], number, len(rows))


def _nearest(sizes: Sequence[int], size: int) -> int:
    return min(sizes, key=lambda other: abs(other - size))


def _mean_rate(values: list[float]) -> float:
    return float(np.mean(values))


def _checked(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    if scores.ndim != 2 or 0 in scores.shape or np.isnan(scores).any():
        raise CalibrationError(
            f"identification scores: expected numbers (probes, subjects), found {scores.shape}"
        )
    return scores
