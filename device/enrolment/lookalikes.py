"""Who, of those enrolled, a new subject could be taken for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.fusion import fuse
from limen.device.enrolment.strangers import Strangers
from limen.device.subjects import References

# Fewer than one stranger in a thousand is as alike.
RARE = 1e-3


@dataclass(frozen=True, slots=True)
class Lookalike:
    """Somebody enrolled who looks like the new subject.

    score: the median of the comparisons that the door would make, both ways; matches, comparisons:
    how many reach the threshold, of how many; strangers_as_alike: share of the cohort whose
    comparison with the new subject reaches `score`; same_person: most comparisons match.
    """

    subject_id: str
    score: float
    matches: int
    comparisons: int
    strangers_as_alike: float
    same_person: bool


def find_lookalikes(
    shots: NDArray[np.float32],
    enrolled: References,
    subject_id: str,
    strangers: Strangers,
    threshold: float,
) -> list[Lookalike]:
    """Everybody but `subject_id` who may be the same person, or be taken for it; most alike first.

    shots: (k, D), unit norm. The comparisons are the door's: each shot against the other's fused
    references, and each of the other's references against the fused shots. Somebody is named where
    one of them reaches `threshold`, or the median is one that few strangers reach.
    """
    if not enrolled.subject_ids or not len(shots):
        return []
    own = fuse(shots, np.zeros(len(shots), np.int64), 1)[0]
    templates = fuse(enrolled.embeddings, enrolled.subject, len(enrolled.subject_ids))
    there = shots @ templates.T
    back = enrolled.embeddings @ own
    found = []
    for number, other in enumerate(enrolled.subject_ids):
        if other == subject_id:
            continue
        scores = np.concatenate([there[:, number], back[enrolled.subject == number]])
        score = float(np.median(scores))
        matches = int((scores >= threshold).sum())
        share = strangers.share_as_alike(own, score)
        if matches or share <= RARE:
            found.append(
                Lookalike(other, score, matches, len(scores), share, 2 * matches >= len(scores))
            )
    return sorted(found, key=lambda lookalike: -lookalike.score)
