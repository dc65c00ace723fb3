"""What peers do at the same doors: two constants, and two thresholds from the gallery alone."""

from __future__ import annotations

import numpy as np
from door_draws import Setup, Truth
from door_embeddings import Part
from numpy.typing import NDArray

from limen.calibration.door_scores import door_scores
from limen.calibration.pairs import best_accuracy_threshold

SFACE, FACE_RECOGNITION = 0.363, 0.6


def best_of_references(
    probes: NDArray[np.float32], references: NDArray[np.float32], subject: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(probes, subjects): the best score over each subject's references."""
    scores = probes @ references.T
    return np.stack([scores[:, subject == s].max(1) for s in range(subject.max() + 1)], axis=1)


def peer_truth(part: Part, door: Setup, which: str) -> tuple[Truth, float]:
    """The truth of a peer's own comparison and its constant, both as similarities."""
    usable = part.dlib_ok if which == "dlib" else np.ones(len(part.person), np.bool_)
    values = part.dlib if which == "dlib" else part.sface
    kept = usable[door.references]
    references, subject = values[door.references][kept], door.subject[kept]
    rows = np.flatnonzero(~np.isin(part.person, door.people) & usable)
    own = usable[door.remaining] & np.isin(door.remaining_subject, subject)
    if which == "dlib":  # minus the Euclidean distance, through one more column each

        def similarity(probes: NDArray[np.float32]) -> NDArray[np.float32]:
            squares = (
                (probes**2).sum(1)[:, None] - 2 * probes @ references.T + (references**2).sum(1)
            )
            distance = -np.sqrt(np.maximum(squares, 0))
            columns = [
                distance[:, subject == s].max(1)
                if (subject == s).any()
                else np.full(len(probes), -np.inf)
                for s in range(len(door.people))
            ]
            return np.stack(columns, axis=1)

        threshold = -FACE_RECOGNITION
    else:

        def similarity(probes: NDArray[np.float32]) -> NDArray[np.float32]:
            return best_of_references(probes, references, subject)

        threshold = SFACE
    mated = similarity(values[door.remaining[own]])
    return (
        Truth(
            similarity(values[rows]),
            part.person[rows],
            mated[np.arange(own.sum()), door.remaining_subject[own]],
        ),
        threshold,
    )


def own_thresholds(part: Part, door: Setup) -> dict[str, float]:
    """Thresholds from the gallery alone: faceid's ceiling, and the best accuracy."""
    embeddings = part.embedding[door.references]
    scores = door_scores(
        embeddings, door.subject, len(door.people), np.zeros((0, embeddings.shape[1]), np.float32)
    )
    both = np.concatenate([scores.mated, scores.non_mated]).astype(np.float64)
    labels = np.arange(len(both)) < len(scores.mated)
    return {
        "faceid's ceiling": float(np.nextafter(scores.non_mated.max(), np.float32(2))),
        "best accuracy": best_accuracy_threshold(both, labels),
    }
