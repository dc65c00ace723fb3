"""Score normalisation with the cohort: Z, T, S and adaptive S (Auckenthaler et al., 2000; Matějka
et al., Interspeech 2017), and the evidence on whether one of them helps at this door.

A normalised score is on another scale, so it needs a threshold of its own. Z-norm with one common
threshold is the same as a threshold for each subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from limen.calibration.fusion import fuse
from limen.calibration.rates import false_non_match_rate, threshold_at_fmr
from limen.errors import CalibrationError

Kind = Literal["none", "z", "t", "s", "as"]
KINDS: tuple[Kind, ...] = ("none", "z", "t", "s", "as")
MIN_COHORT = 20


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Normalises scores against a cohort.

    kind: 'none'; 'z', by what strangers score against the reference; 't', by what the probe scores
    against strangers' templates; 's', the mean of both; 'as', of both with the `top` highest only.
    strangers: (m, D), probes; templates: (p, D), the strangers' fused references.
    """

    kind: Kind
    strangers: NDArray[np.float32]
    templates: NDArray[np.float32]
    top: int = 100

    def __call__(
        self, probes: NDArray[np.float32], references: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(p, n) normalised scores of probes (p, D) against fused references (n, D)."""
        scores = probes @ references.T
        if self.kind == "none":
            return scores
        adaptive = self.kind == "as"
        parts = []
        if self.kind in ("z", "s", "as"):
            mean, spread = _moments(references @ self.strangers.T, self.top if adaptive else None)
            parts.append((scores - mean[None]) / spread[None])
        if self.kind in ("t", "s", "as"):
            mean, spread = _moments(probes @ self.templates.T, self.top if adaptive else None)
            parts.append((scores - mean[:, None]) / spread[:, None])
        return np.asarray(sum(parts) / len(parts), np.float32)


def normaliser(
    kind: Kind, cohort: NDArray[np.float32], cohort_subject: NDArray[np.int64], top: int = 100
) -> Normaliser:
    """A normaliser from a cohort's embeddings (m, D) and people (m,).

    CalibrationError for an unknown kind, or a cohort of fewer than twenty people.
    """
    if kind not in KINDS:
        raise CalibrationError(f"normalisation: expected one of {', '.join(KINDS)}, found {kind!r}")
    people, number = np.unique(cohort_subject, return_inverse=True)
    if len(people) < MIN_COHORT:
        raise CalibrationError(
            f"normalisation needs a cohort of {MIN_COHORT} people or more, found {len(people)}"
        )
    return Normaliser(kind, cohort, fuse(cohort, number, len(people)), top)


@dataclass(frozen=True, slots=True)
class NormalisationEvidence:
    """FNMR at `max_fmr` by kind, on people who served neither the fit nor the threshold's choice.

    gain and gain_error: of the best kind over none, and the gain's standard error over the random
    splits; `chosen` is 'none' unless the gain is more than twice that error and than a hundredth.
    """

    fnmr: dict[Kind, float]
    best: Kind
    gain: float
    gain_error: float
    chosen: Kind


def compare_normalisations(
    embeddings: NDArray[np.float32],
    subject: NDArray[np.int64],
    *,
    max_fmr: float,
    rng: np.random.Generator,
    splits: int = 10,
    shots: int = 3,
) -> NormalisationEvidence:
    """Try every kind on held-out people: half of them are the cohort, a quarter a gallery each.

    embeddings: (n, D) of many people, such as a bundle's cohort; subject: (n,). People with fewer
    than two pictures serve as strangers only. CalibrationError where fewer than 80 people have
    two pictures: the answer would be chance.
    """
    people, counts = np.unique(subject, return_counts=True)
    several = people[counts >= 2]
    if len(several) < 4 * MIN_COHORT:
        raise CalibrationError(
            f"comparing normalisations needs {4 * MIN_COHORT} people with two pictures, "
            f"found {len(several)}"
        )
    found: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(splits):
        order = rng.permutation(several)
        cohort = np.isin(subject, order[: len(order) // 2])
        gallery = order[len(order) // 2 : 3 * len(order) // 4]
        rest = np.isin(subject, order[3 * len(order) // 4 :])
        references, probes, owner = _split_gallery(embeddings, subject, gallery, shots)
        for kind in KINDS:
            apply = normaliser(kind, embeddings[cohort], subject[cohort])
            threshold = threshold_at_fmr(apply(embeddings[rest], references).ravel(), max_fmr)
            mated = apply(probes, references)[np.arange(len(owner)), owner]
            found[kind].append(false_non_match_rate(mated, threshold))
    means = {kind: float(np.mean(rates)) for kind, rates in found.items()}
    best = min(KINDS, key=lambda kind: means[kind])
    gains = np.array(found["none"]) - np.array(found[best])
    error = float(gains.std(ddof=1) / np.sqrt(splits)) if splits > 1 else float("inf")
    gain = float(gains.mean())
    return NormalisationEvidence(
        means, best, gain, error, best if gain > max(2 * error, 0.01) else "none"
    )


def _split_gallery(
    embeddings: NDArray[np.float32],
    subject: NDArray[np.int64],
    gallery: NDArray[np.int64],
    shots: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    enrolled, number, kept, owner = [], [], [], []
    for place, person in enumerate(gallery):
        rows = np.flatnonzero(subject == person)
        taken = min(shots, len(rows) - 1)
        enrolled.append(rows[:taken])
        number.append(np.full(taken, place))
        kept.append(rows[taken:])
        owner.append(np.full(len(rows) - taken, place))
    references = fuse(embeddings[np.concatenate(enrolled)], np.concatenate(number), len(gallery))
    return references, embeddings[np.concatenate(kept)], np.concatenate(owner)


def _moments(
    scores: NDArray[np.float32], top: int | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if top is not None and top < scores.shape[1]:
        scores = np.partition(scores, scores.shape[1] - top, axis=1)[:, -top:]
    return scores.mean(1), np.maximum(scores.std(1), 1e-6)
