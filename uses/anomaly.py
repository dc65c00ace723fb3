"""Does this belong to what was seen? Detectors over embeddings, and a threshold that says how sure.

A detector gives a *strangeness*: the higher, the less it belongs, and `strangeness >= threshold` is an
alarm. The threshold is set on familiar rows that the detector was not fitted on, with the bound of
an operating point (`limen.calibration`), so the false-alarm rate keeps its promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from limen.calibration.clusters import Tail, tail_evidence
from limen.calibration.rates import just_above
from limen.errors import CalibrationError, ModelMismatchError
from limen.uses.embedding_set import EmbeddingsError, EmbeddingSet

MIN_FAMILIAR = 10
_BLOCK = 1024


class DetectorKind(StrEnum):
    """How strangeness is measured."""

    KNN = "knn"
    MAHALANOBIS = "mahalanobis"
    ONE_CLASS = "one-class"


class Detector(Protocol):
    """Measures strangeness."""

    def strangeness(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, D) to (n,)."""
        ...

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What it is made of, for a file."""
        ...


@dataclass(frozen=True)
class NearestNeighbours:
    """The mean Euclidean distance to the k nearest familiar rows. familiar: (m, D) float32."""

    familiar: NDArray[np.float32]
    k: int

    def strangeness(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        k = min(self.k, len(self.familiar))
        found = np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK):
            distances = cdist(rows[start : start + _BLOCK], self.familiar)
            nearest = np.partition(distances, k - 1, axis=1)[:, :k]
            found[start : start + _BLOCK] = nearest.mean(axis=1)
        return found

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {"familiar": self.familiar, "k": np.array([self.k])}


@dataclass(frozen=True)
class Mahalanobis:
    """The Mahalanobis distance to the nearest class mean, one covariance for all classes.

    Lee et al., "A simple unified framework for detecting out-of-distribution samples", NeurIPS 2018;
    the covariance is shrunk as Ledoit and Wolf, J. Multivariate Analysis 88(2), 2004. means: (c, D)
    float64, whitening: (D, D) float64, a root of the inverse covariance.
    """

    means: NDArray[np.float64]
    whitening: NDArray[np.float64]

    def strangeness(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(cdist(rows @ self.whitening, self.means @ self.whitening).min(axis=1))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {"means": self.means, "whitening": self.whitening}


@dataclass(frozen=True)
class OneClass:
    """A one-class support vector machine with a Gaussian kernel: Schölkopf et al., 2001.

    strangeness = offset - sum_i weight_i exp(-gamma |row - vector_i|^2), which is the negative of
    scikit-learn's decision function. vectors: (s, D), weights: (s,), both float64.
    """

    vectors: NDArray[np.float64]
    weights: NDArray[np.float64]
    gamma: float
    offset: float

    def strangeness(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        found = np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK):
            squared = cdist(rows[start : start + _BLOCK], self.vectors, "sqeuclidean")
            found[start : start + _BLOCK] = (
                self.offset - np.exp(-self.gamma * squared) @ self.weights
            )
        return found

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        kernel = np.array([self.gamma, self.offset])
        return {"vectors": self.vectors, "weights": self.weights, "kernel": kernel}


def fit_detector(
    kind: DetectorKind, rows: NDArray[np.float32], label: NDArray[np.int64], k: int = 5
) -> Detector:
    """A detector of what is unlike `rows` (n, D). label: (n,), the classes, -1 for none.

    Only Mahalanobis looks at classes. It and one-class need scikit-learn. EmbeddingsError for
    fewer than ten rows.
    """
    if len(rows) < MIN_FAMILIAR:
        raise EmbeddingsError(
            f"{len(rows)} familiar ones are too few to fit on, expected {MIN_FAMILIAR} or more"
        )
    if kind is DetectorKind.KNN:
        return NearestNeighbours(np.ascontiguousarray(rows, np.float32), k)
    wide = rows.astype(np.float64)
    if kind is DetectorKind.MAHALANOBIS:
        from sklearn.covariance import ledoit_wolf

        classes, number = np.unique(label, return_inverse=True)
        means = np.stack([wide[number == c].mean(axis=0) for c in range(len(classes))])
        covariance, _ = ledoit_wolf(wide - means[number], assume_centered=True)
        values, vectors = np.linalg.eigh(covariance)
        if values.max() <= 0:
            raise EmbeddingsError("all familiar ones are alike: there is no spread to measure by")
        floor = values.max() * 1e-9
        return Mahalanobis(means, vectors / np.sqrt(np.maximum(values, floor)))
    from sklearn.svm import OneClassSVM

    gamma = 1 / max(1e-12, wide.shape[1] * float(wide.var()))  # scikit-learn's 'scale'
    machine = OneClassSVM(kernel="rbf", gamma=gamma, nu=0.1).fit(wide)
    return OneClass(
        vectors=np.asarray(machine.support_vectors_, np.float64),
        weights=np.asarray(machine.dual_coef_[0], np.float64),
        gamma=gamma,
        offset=-float(machine.intercept_[0]),
    )


@dataclass(frozen=True)
class AlarmPoint:
    """An alarm's threshold with its evidence, from `familiar` rows the detector never saw.

    A test with as many new familiar ones stays within false_alarm_bound, with `confidence`.
    """

    threshold: float
    max_false_alarms: float
    confidence: float
    false_alarm_rate: float
    false_alarm_bound: float
    familiar: int
    groups: int


@dataclass(frozen=True)
class AnomalyModel:
    """A detector with the threshold of its alarm, bound to the model of its embeddings."""

    kind: DetectorKind
    detector: Detector
    point: AlarmPoint
    model_id: str
    embedding_size: int

    def strangeness(self, rows: NDArray[np.float32], model_id: str) -> NDArray[np.float64]:
        """(n, D) to (n,). ModelMismatchError where the rows are of another model."""
        if model_id != self.model_id or rows.shape[1:] != (self.embedding_size,):
            raise ModelMismatchError(
                f"what is familiar was embedded by model {self.model_id[:8] or 'unknown'} "
                f"({self.embedding_size} values), this is {model_id[:8] or 'unknown'} "
                f"({rows.shape[-1]}): fit again, or give the bundle and domain it was fitted with"
            )
        return self.detector.strangeness(rows)


def fit_anomaly(
    familiar: EmbeddingSet,
    kind: DetectorKind,
    *,
    max_false_alarms: float,
    confidence: float,
    rng: np.random.Generator,
    group: NDArray[np.int64] | None = None,
    k: int = 5,
) -> AnomalyModel:
    """Fit on one half of what is familiar, and set the threshold on the other.

    group: (n,), rows that are alike (of one object, one visit, one recording) go to one half
    together, and count together in the bound; each row by itself where not given.
    CalibrationError where the other half cannot carry the claim, with how many could.
    """
    if not 0 < max_false_alarms < 1 or not 0 < confidence < 1:
        raise CalibrationError(
            f"false-alarm rate and confidence: expected between 0 and 1, found {max_false_alarms} "
            f"and {confidence}"
        )
    groups = np.arange(len(familiar)) if group is None else group
    held = _half(groups, rng)
    rows = familiar.embeddings
    detector = fit_detector(kind, rows[~held], familiar.label[~held], k)
    found = detector.strangeness(rows[held])
    point = _alarm_point(found, groups[held], max_false_alarms, confidence)
    return AnomalyModel(kind, detector, point, familiar.model_id, rows.shape[1])


def _half(groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Half of the rows, whole groups, drawn."""
    names, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permutation(len(names))
    before = np.cumsum(counts[order]) - counts[order]
    return np.isin(number, order[before < len(groups) / 2])


def _alarm_point(
    strangeness: NDArray[np.float64],
    group: NDArray[np.int64],
    max_rate: float,
    confidence: float,
) -> AlarmPoint:
    if not len(strangeness):
        raise CalibrationError("no familiar ones are left to set the threshold on: give more")
    tail: Tail = tail_evidence(strangeness, group, confidence=confidence, max_rate=max_rate)
    index = tail.lowest_within(max_rate)
    if index is None:
        least = float(tail.bound[0])
        needed = int(np.ceil(len(strangeness) * least / max_rate))
        raise CalibrationError(
            f"{len(strangeness)} familiar ones kept apart cannot show a false-alarm rate of "
            f"{max_rate:g}: give about {2 * needed:,} in all, or ask for {_up(least):g} or more"
        )
    threshold = just_above(float(tail.cut[index]), np.dtype(np.float64))
    alarms = float(np.mean(strangeness >= threshold))
    return AlarmPoint(
        threshold=threshold,
        max_false_alarms=max_rate,
        confidence=confidence,
        false_alarm_rate=alarms,
        false_alarm_bound=float(tail.bound[index]),
        familiar=len(strangeness),
        groups=len(np.unique(group)),
    )


def _up(rate: float) -> float:
    """Two digits, rounded up."""
    scale = 10.0 ** (1 - np.floor(np.log10(rate)))
    return float(np.ceil(rate * scale - 1e-9) / scale)
