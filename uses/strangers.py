"""A threshold from people or things that no folder here knows: a bundle's cohort, or a labelled set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.bundle import Bundle
from limen.calibration.rates import threshold_at_fmr
from limen.errors import CalibrationError
from limen.uses.distances import Distance, scores_between
from limen.uses.embedding_set import UNLABELLED, EmbeddingSet, unit_rows

# All pairs of these are compared; more would take gigabytes and change the third digit.
MAX_ROWS = 4096
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Strangers:
    """embeddings: (n, D) float32; subject: (n,) int64, two or more different; where: for messages."""

    embeddings: NDArray[np.float32]
    subject: NDArray[np.int64]
    where: str

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Strangers:
        """The cohort that a bundle carries. BundleError where it carries none."""
        cohort = bundle.cohort()
        return cls(cohort.embeddings, cohort.subject, "the bundle's strangers")

    @classmethod
    def of_set(cls, found: EmbeddingSet, where: str) -> Strangers:
        """Labelled embeddings; rows without a label are left out."""
        labelled = found.labelled()
        assert UNLABELLED not in labelled.label
        return cls(labelled.embeddings, labelled.label, where)

    def thinned(self) -> Strangers:
        """At most 4,096 rows, whole subjects, spread evenly over all."""
        if len(self.subject) <= MAX_ROWS:
            return self
        people = np.unique(self.subject)
        share = MAX_ROWS / len(self.subject)
        kept = people[
            np.unique(np.linspace(0, len(people) - 1, int(len(people) * share), dtype=int))
        ]
        rows = np.isin(self.subject, kept)
        return Strangers(self.embeddings[rows], self.subject[rows], self.where)

    def threshold(self, max_fmr: float, distance: Distance = Distance.COSINE) -> float:
        """The lowest score at which at most `max_fmr` of the pairs of two strangers match.

        CalibrationError where there are too few pairs to say so.
        """
        chosen = self.thinned()
        rows = unit_rows(chosen.embeddings) if distance is Distance.COSINE else chosen.embeddings
        parts = []
        for start in range(0, len(rows), _BLOCK):
            block = scores_between(rows[start : start + _BLOCK], rows[start:], distance)
            own = chosen.subject[start : start + _BLOCK, None] != chosen.subject[None, start:]
            parts.append(block[np.triu(own, 1)].astype(np.float32))
        scores = np.concatenate(parts)
        if len(scores) * max_fmr < 1:
            raise CalibrationError(
                f"{len(scores):,} pairs of {self.where} cannot show a rate of {max_fmr:g}: ask for "
                f"{1 / max(1, len(scores)):.1g} or more, or name a threshold"
            )
        return threshold_at_fmr(scores, max_fmr)
