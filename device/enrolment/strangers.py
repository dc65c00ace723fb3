"""The bundle's strangers as a scale: how alike two people who are not one may look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from limen.calibration.bounds import upper_bound
from limen.calibration.rates import threshold_at_fmr
from limen.calibration.scores import mated_and_non_mated
from limen.errors import CalibrationError

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Strangers:
    """A cohort, and the thresholds of single comparisons among its people.

    embeddings: (m, D) float32, unit norm; non_mated: scores of all pairs of different people.
    """

    embeddings: NDArray[np.float32]
    non_mated: NDArray[np.float32]

    @classmethod
    def of(cls, embeddings: NDArray[np.float32], subject: NDArray[np.int64]) -> Self:
        """The scale of a cohort. CalibrationError where it has fewer than two people."""
        _, non_mated = mated_and_non_mated(embeddings, subject)
        if not len(non_mated):
            raise CalibrationError("the cohort has no two people: use a bundle with a larger one")
        return cls(embeddings, non_mated)

    @property
    def at_fmr_1e_3(self) -> float:
        """What one pair of strangers in a thousand reaches."""
        return threshold_at_fmr(self.non_mated, 1e-3)

    def same_person_among(self, people: int) -> float:
        """What a stranger reaches with anybody among so many people once in twenty times, at most.

        By the union bound; never less strict than `at_fmr_1e_3`.
        """
        return threshold_at_fmr(self.non_mated, min(1e-3, 0.05 / max(1, people)))

    def share_as_alike(self, template: NDArray[np.float32], score: float) -> float:
        """Share of strangers whose comparison with `template` (D,) reaches `score`."""
        return float(np.mean(self.embeddings @ template >= score))

    def identification_rate(
        self, templates: NDArray[np.float32], threshold: float
    ) -> tuple[float, float]:
        """The false-positive identification rate and its upper bound at 95 %.

        Share of the strangers' samples that match anybody among `templates` (n, D): FPIR as in
        ISO/IEC 19795-1. The bound (Clopper and Pearson) takes samples as independent; several are
        of one person, so read it as optimistic.
        """
        if not len(templates):
            return 0.0, 0.0
        false_positives = int(((self.embeddings @ templates.T).max(axis=1) >= threshold).sum())
        trials = len(self.embeddings)
        return false_positives / trials, upper_bound(false_positives, trials, CONFIDENCE)
