"""Learned metrics over embeddings: KISSME and within-class covariance whitening.

Both are linear maps of embeddings, after which the cosine is taken as ever. Optional: one is kept
only where people who served neither its fit nor its threshold say that it helps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from limen.calibration.rates import false_non_match_rate, threshold_at_fmr
from limen.calibration.scores import mated_and_non_mated
from limen.errors import CalibrationError

Kind = Literal["wccn", "kissme"]
MIN_PEOPLE = 20


@dataclass(frozen=True, slots=True)
class LinearMetric:
    """projection: (D, D) float32, applied to embeddings, which are scaled to unit norm again."""

    kind: Kind
    projection: NDArray[np.float32]

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, D) unit norm to (n, D) unit norm."""
        mapped = embeddings @ self.projection.T
        return np.asarray(
            mapped / np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12), np.float32
        )


def within_class_whitening(
    embeddings: NDArray[np.float32], subject: NDArray[np.int64], shrinkage: float = 0.1
) -> LinearMetric:
    """Whiten what differs between pictures of one person (WCCN, Hatch et al., Interspeech 2006).

    embeddings: (n, D); subject: (n,). The covariance is shrunk towards a multiple of the identity
    by `shrinkage` (0 to 1), since there are rarely many more pictures than dimensions.
    CalibrationError for fewer than twenty people with two pictures.
    """
    covariance = _shrunk(_within(embeddings, subject), shrinkage)
    values, vectors = np.linalg.eigh(covariance)
    return LinearMetric("wccn", np.asarray((vectors / np.sqrt(values)) @ vectors.T, np.float32))


def kissme(
    embeddings: NDArray[np.float32],
    subject: NDArray[np.int64],
    rng: np.random.Generator,
    shrinkage: float = 0.1,
) -> LinearMetric:
    """Köstinger et al., "Large scale metric learning from equivalence constraints", CVPR 2012.

    M = S^-1 - D^-1, with S and D the covariances of differences of mated and of non-mated pairs,
    projected onto the positive semidefinite cone; the map is a root of M.
    """
    mated = 2 * _within(embeddings, subject)
    count = len(embeddings)
    left, right = rng.integers(0, count, (2, 20 * count))
    different = subject[left] != subject[right]
    difference = (embeddings[left[different]] - embeddings[right[different]]).astype(np.float64)
    non_mated = difference.T @ difference / len(difference)
    matrix = np.linalg.inv(_shrunk(mated, shrinkage)) - np.linalg.inv(_shrunk(non_mated, shrinkage))
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    root = np.sqrt(np.maximum(values, 0))
    if not root.any():
        raise CalibrationError("pictures of one person differ as much as those of two: no metric")
    return LinearMetric("kissme", np.asarray(root[:, None] * vectors.T, np.float32))


@dataclass(frozen=True, slots=True)
class MetricEvidence:
    """FNMR at `max_fmr` on people the metric was not fitted on; `kept` only where it helps."""

    kind: Kind
    fnmr_before: float
    fnmr_after: float
    gain_error: float
    kept: bool


def metric_evidence(
    kind: Kind,
    embeddings: NDArray[np.float32],
    subject: NDArray[np.int64],
    *,
    max_fmr: float,
    rng: np.random.Generator,
    folds: int = 5,
) -> MetricEvidence:
    """Fit on all but one fold of people, measure on that one, in turn.

    Kept where the mean gain is more than twice its standard error over folds and than a hundredth.
    """
    people = rng.permutation(np.unique(subject))
    before: list[float] = []
    after: list[float] = []
    for fold in range(folds):
        held = np.isin(subject, people[fold::folds])
        fitted = fit(kind, embeddings[~held], subject[~held], rng)
        for scores, kept in ((embeddings[held], before), (fitted(embeddings[held]), after)):
            mated, non_mated = mated_and_non_mated(scores, subject[held])
            kept.append(false_non_match_rate(mated, threshold_at_fmr(non_mated, max_fmr)))
    gains = np.array(before) - np.array(after)
    error = float(gains.std(ddof=1) / np.sqrt(folds))
    gain = float(gains.mean())
    return MetricEvidence(
        kind, float(np.mean(before)), float(np.mean(after)), error, gain > max(2 * error, 0.01)
    )


def fit(
    kind: Kind,
    embeddings: NDArray[np.float32],
    subject: NDArray[np.int64],
    rng: np.random.Generator,
) -> LinearMetric:
    """The metric of that kind."""
    if kind == "kissme":
        return kissme(embeddings, subject, rng)
    return within_class_whitening(embeddings, subject)


def _within(embeddings: NDArray[np.float32], subject: NDArray[np.int64]) -> NDArray[np.float64]:
    """The pooled covariance of pictures about their person's mean, (D, D)."""
    people, number, counts = np.unique(subject, return_inverse=True, return_counts=True)
    if (counts >= 2).sum() < MIN_PEOPLE:
        raise CalibrationError(
            f"a metric needs {MIN_PEOPLE} people with two pictures or more, found "
            f"{int((counts >= 2).sum())}"
        )
    sums = np.zeros((len(people), embeddings.shape[1]))
    np.add.at(sums, number, embeddings)
    rest = embeddings - sums[number] / counts[number, None]
    return np.asarray(rest.T @ rest / (len(embeddings) - len(people)), np.float64)


def _shrunk(covariance: NDArray[np.float64], shrinkage: float) -> NDArray[np.float64]:
    if not 0 <= shrinkage <= 1:
        raise CalibrationError(f"shrinkage: expected 0 to 1, found {shrinkage}")
    size = len(covariance)
    level = np.trace(covariance) / size
    return np.asarray((1 - shrinkage) * covariance + shrinkage * level * np.eye(size))
