"""Whether the shots of an enrolment are of one person, and which of them add something."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

# Two shots this much alike are practically one picture: the second teaches nothing, and would make
# the calibration believe that the subject is always recognised.
REDUNDANT_SCORE = 0.995
MAX_REFERENCES = 20

OUTLIER = "unlike the other shots: of another person, or turned too far; take it again"
TORN = "the shots are of two people, none in the majority: name shots of one person"
STRANGER = (
    "unlike what is enrolled under this subject id: of another person, or taken too differently"
)
REDUNDANT = "practically the same picture as another shot: move a little between shots"
ENOUGH = f"the subject has {MAX_REFERENCES} references, which is enough: remove it and enrol anew"


def judge_together(
    shots: NDArray[np.float32],
    known: NDArray[np.float32],
    qualities: list[float],
    same_person: float,
) -> list[str | None]:
    """Why each shot should not become a reference, seen beside the others; None where it may.

    shots: (k, D), known: (n, D) references that the subject has; unit norm. Shots are linked where
    two reach `same_person`, a score that strangers rarely reach; the largest group, or the one
    with most of the known references, is the person. Of near-equal shots the best stays, and no
    more are taken than the subject may have.
    """
    reasons: list[str | None] = [None] * len(shots)
    everything = np.concatenate([known, shots]) if len(known) else shots
    scores = everything @ everything.T
    person = _person(scores >= same_person, len(known))
    for number in range(len(shots)):
        if person is None:
            reasons[number] = TORN
        elif not person[len(known) + number]:
            reasons[number] = STRANGER if len(known) else OUTLIER
    kept = list(range(len(known)))
    for number in sorted(range(len(shots)), key=lambda n: (-qualities[n], n)):
        if reasons[number] is not None:
            continue
        row = len(known) + number
        if kept and scores[row, kept].max() >= REDUNDANT_SCORE:
            reasons[number] = REDUNDANT
        elif len(kept) >= MAX_REFERENCES:
            reasons[number] = ENOUGH
        else:
            kept.append(row)
    return reasons


def _person(linked: NDArray[np.bool_], known: int) -> NDArray[np.bool_] | None:
    """Which rows are of the person; None where two groups have an equal claim."""
    count, group = connected_components(linked, directed=False)
    claims = np.bincount(group[:known] if known else group, minlength=count)
    if count > 1 and (claims == claims.max()).sum() > 1:
        return None
    return np.asarray(group == claims.argmax())
