"""What a score means at this door: how rare it is among strangers, and a log-likelihood ratio.

Fitted when the door is calibrated and kept with its operating point. Neither says more than the
comparisons carry: a ratio is cut off where one more comparison could contradict it, in the manner
of Vergeer et al., "Numerical likelihood ratios outputted by LR systems are often based on
extrapolation", Science and Justice 56, 2016; a rarity that too few strangers show is a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from limen.calibration.bounds import upper_bound
from limen.calibration.clusters import MIN_STRANGERS, tail_evidence
from limen.calibration.door_scores import DoorScores
from limen.calibration.fusion import fuse, fused_probes
from limen.calibration.likelihood import (
    LogisticRatio,
    cllr,
    fit_logistic,
    isotonic_log_ratios,
)
from limen.errors import CalibrationError

MIN_MATED, MIN_MATED_PEOPLE = 20, 5

_FITTED_NON_MATED = 10_000
_FOLDS = 5
_ROWS = 48
_TAIL = 0.05
_BODY = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)


class RarityRow(BaseModel):
    """Above a score lies `rate` of strangers' comparisons, a later test's share being at most
    `bound`; `observed`: enough different strangers are among them to name a rate at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    above: float = Field(ge=-1.0001, le=1.0001)
    rate: float = Field(ge=0, le=1)
    bound: float = Field(gt=0, le=1)
    observed: bool


class RatioStep(BaseModel):
    """From a score on, the log-likelihood ratio (natural) that the isotonic fit gives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_score: float = Field(ge=-1.0001, le=1.0001)
    log_ratio: float


@dataclass(frozen=True, slots=True)
class Rarity:
    """One stranger in `one_in` is as much alike; `at_most`: it may be one in many more."""

    one_in: float
    at_most: bool


class ScoreMeaning(BaseModel):
    """The fits, with what judges them.

    logistic: log LR = intercept + slope * score; isotonic: steps, scores rising. Both natural
    logarithms, cut off at -limit_against and limit_for. cllr is of the logistic fit at people it
    was not fitted to, min_cllr of the best monotone one, in bits. mated_from: whose mated scores;
    the cohort's stand in where the gallery's are too few. rarity: scores falling.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    intercept: float
    slope: float = Field(gt=0)
    isotonic: tuple[RatioStep, ...] = Field(max_length=200)
    limit_for: float = Field(ge=0)
    limit_against: float = Field(ge=0)
    cllr: float = Field(ge=0)
    min_cllr: float = Field(ge=0)
    mated_from: Literal["gallery", "cohort"]
    mated_comparisons: int = Field(ge=1)
    mated_people: int = Field(ge=1)
    rarity: tuple[RarityRow, ...] = Field(min_length=1, max_length=100)

    def log_ratio(self, score: float) -> float:
        """The logistic log-likelihood ratio of a score, within what the counts carry."""
        return self._within(self.intercept + self.slope * score)

    def isotonic_log_ratio(self, score: float) -> float:
        """The isotonic one, likewise."""
        reached = [step.log_ratio for step in self.isotonic if step.from_score <= score]
        return self._within(reached[-1] if reached else -self.limit_against)

    def weaker_log_ratio(self, score: float) -> float:
        """What both fits say at least: the one nearer to 0, and 0 where they disagree."""
        both = self.log_ratio(score), self.isotonic_log_ratio(score)
        return 0.0 if both[0] * both[1] <= 0 else min(both, key=abs)

    def strangers(self, score: float) -> Rarity:
        """How rare a score as high as this is among strangers' comparisons with one subject.

        Averaged over the people enrolled. Between two rows the commoner one is told.
        """
        row = next((row for row in self.rarity if row.above < score), self.rarity[-1])
        return Rarity(1 / row.rate, False) if row.observed else Rarity(1 / row.bound, True)

    def _within(self, log_ratio: float) -> float:
        return float(min(self.limit_for, max(-self.limit_against, log_ratio)))


def find_meaning(
    scores: DoorScores,
    cohort_mated: tuple[NDArray[np.float32], NDArray[np.int64]],
    confidence: float,
) -> ScoreMeaning | None:
    """Fit what scores mean. None where no mated scores are at hand, or they are no higher.

    scores: the door's; cohort_mated: `cohort_mated_scores`, for galleries of few mated ones.
    """
    own = len(scores.mated) >= MIN_MATED
    own = own and len(np.unique(scores.mated_subject)) >= MIN_MATED_PEOPLE
    mated, person = (scores.mated, scores.mated_subject) if own else cohort_mated
    people = len(np.unique(person))
    if len(mated) < MIN_MATED or people < MIN_MATED_PEOPLE:
        return None
    rarity = _rarity(scores, confidence)
    non_mated, stranger = _thinned(scores.non_mated, scores.stranger)
    try:
        fitted = fit_logistic(mated, non_mated)
        judged = _held_out_cllr(mated, person, non_mated, stranger)
    except CalibrationError:  # higher scores do not speak for a match here
        return None
    for_mated, for_non_mated = isotonic_log_ratios(mated, non_mated)
    limit_for = float(-np.log(rarity[0].bound))
    limit_against = float(-np.log(upper_bound(0, people, confidence)))
    return ScoreMeaning(
        intercept=fitted.intercept,
        slope=fitted.slope,
        isotonic=_steps(
            np.concatenate([mated, non_mated]),
            np.clip(np.concatenate([for_mated, for_non_mated]), -limit_against, limit_for),
        ),
        limit_for=limit_for,
        limit_against=limit_against,
        cllr=judged,
        min_cllr=cllr(for_mated, for_non_mated),
        mated_from="gallery" if own else "cohort",
        mated_comparisons=len(mated),
        mated_people=people,
        rarity=rarity,
    )


def cohort_mated_scores(
    cohort: NDArray[np.float32],
    cohort_subject: NDArray[np.int64],
    shots: int,
    probe_frames: int = 1,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cohort people, enrolled with their first `shots` pictures, against the rest of their own.

    cohort: (m, D) unit norm; subject: (m,), any numbers. Returns scores (k,) and whose they are
    (k,); people with no more than `shots` pictures give none.
    """
    if not len(cohort):
        return np.zeros(0, np.float32), np.zeros(0, np.int64)
    people, number, counts = np.unique(cohort_subject, return_inverse=True, return_counts=True)
    order = np.argsort(number, kind="stable")
    nth = np.empty(len(number), np.int64)
    nth[order] = np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts, counts)
    templates = fuse(cohort[nth < shots], number[nth < shots], len(people))
    if not (nth >= shots).any():
        return np.zeros(0, np.float32), np.zeros(0, np.int64)
    probes, who = fused_probes(cohort[nth >= shots], number[nth >= shots], probe_frames)
    return np.einsum("pd,pd->p", probes, templates[who]).astype(np.float32), people[who]


def _rarity(scores: DoorScores, confidence: float) -> tuple[RarityRow, ...]:
    tail = tail_evidence(
        scores.non_mated, scores.stranger, confidence=confidence, max_rate=_TAIL, prior=scores.prior
    )
    trials = len(scores.non_mated)
    finite = np.flatnonzero(np.isfinite(tail.cut))
    bound = np.maximum.accumulate(tail.bound)
    ranks = np.unique(np.geomspace(1, max(len(finite), 1), _ROWS).round().astype(np.int64)) - 1
    rows = [
        RarityRow(
            above=float(tail.cut[rank]),
            rate=float(tail.false_matches[rank]) / trials,
            bound=max(float(bound[rank]), float(tail.false_matches[rank]) / trials),
            # Rarer than a test that found nothing could show is not told as seen.
            observed=bool(
                tail.strangers[rank] >= MIN_STRANGERS
                and tail.false_matches[rank] >= trials * tail.bound[0]
            ),
        )
        for rank in finite[ranks[ranks < len(finite)]]
    ]
    values = np.asarray(scores.non_mated, np.float64)
    for rate in _BODY:
        above = float(np.quantile(values, 1 - rate)) if rate < 1 else -1.0001
        if not rows or above < rows[-1].above:
            rows.append(RarityRow(above=above, rate=rate, bound=rate, observed=True))
    return tuple(rows)


def _thinned(
    scores: NDArray[np.float32], stranger: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Evenly over the order of the scores: a fit to them all would cost seconds and say the same."""
    if len(scores) <= _FITTED_NON_MATED:
        return scores, stranger
    order = np.argsort(scores, kind="stable")
    kept = order[np.linspace(0, len(scores) - 1, _FITTED_NON_MATED).round().astype(np.int64)]
    return scores[kept], stranger[kept]


def _held_out_cllr(
    mated: NDArray[np.float32],
    person: NDArray[np.int64],
    non_mated: NDArray[np.float32],
    stranger: NDArray[np.int64],
) -> float:
    """Cllr of the logistic fit at people who were left out of it, in folds."""
    mated_fold = np.unique(person, return_inverse=True)[1] % _FOLDS
    non_mated_fold = np.unique(stranger, return_inverse=True)[1] % _FOLDS
    for_mated = np.zeros(len(mated), np.float64)
    for_non_mated = np.zeros(len(non_mated), np.float64)
    for fold in range(_FOLDS):
        in_m, in_n = mated_fold == fold, non_mated_fold == fold
        fitted: LogisticRatio = fit_logistic(mated[~in_m], non_mated[~in_n])
        for_mated[in_m], for_non_mated[in_n] = fitted(mated[in_m]), fitted(non_mated[in_n])
    return cllr(for_mated, for_non_mated)


def _steps(scores: NDArray[np.float32], log_ratio: NDArray[np.float64]) -> tuple[RatioStep, ...]:
    order = np.argsort(scores, kind="stable")
    values, ratios = scores[order], log_ratio[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(ratios) > 1e-9]))
    if len(starts) > 200:
        starts = starts[np.linspace(0, len(starts) - 1, 200).round().astype(np.int64)]
    return tuple(
        RatioStep(from_score=float(values[at]), log_ratio=float(ratios[at])) for at in starts
    )
