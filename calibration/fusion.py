"""One template a subject, one probe a track: how embeddings are fused, at the door as here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limen.errors import CalibrationError


def fuse(
    embeddings: NDArray[np.float32], subject: NDArray[np.int64], subjects: int
) -> NDArray[np.float32]:
    """The unit-norm mean of each subject's references.

    embeddings: (n, D), unit norm; subject: (n,), 0..subjects-1. Returns (subjects, D) float32.
    CalibrationError for a subject without references, or whose references cancel out.
    """
    sums = np.zeros((subjects, embeddings.shape[1]), np.float64)
    np.add.at(sums, subject, embeddings)
    norm = np.linalg.norm(sums, axis=1, keepdims=True)
    if (norm < 1e-6).any():
        raise CalibrationError(
            f"subject number {int(np.argmin(norm))} has no references, or ones that contradict "
            "each other: enrol that subject again"
        )
    return np.asarray(sums / norm, np.float32)


def fuse_track(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probe of one track: the unit-norm mean of its frames' embeddings, (k, D) to (D,)."""
    return np.asarray(fuse(embeddings, np.zeros(len(embeddings), np.int64), 1)[0])


def fused_probes(
    embeddings: NDArray[np.float32], subject: NDArray[np.int64], frames: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probes as a track of `frames` frames gives them, from each person's pictures in their order.

    embeddings: (n, D), unit norm; subject: (n,), any numbers. A person with m pictures gives
    max(1, m // frames) probes; what is left over joins the last one. Returns (p, D) and (p,).

    Fusing raises the score of a stranger as it raises that of the right person, so a threshold
    found on single pictures is too low for fused probes. Different pictures of one person differ
    more than the frames of one track, which makes the answer err on the safe side.
    """
    if frames < 1:
        raise CalibrationError(f"frames of a probe: expected 1 or more, found {frames}")
    if frames == 1:
        return embeddings, subject
    order = np.argsort(subject, kind="stable")
    people, counts = np.unique(subject, return_counts=True)
    probes = np.maximum(1, counts // frames)
    within = np.arange(len(subject)) - np.repeat(np.cumsum(counts) - counts, counts)
    number = np.minimum(within // frames, np.repeat(probes - 1, counts))
    number += np.repeat(np.cumsum(probes) - probes, counts)
    fused = fuse(embeddings[order], number, int(probes.sum()))
    return fused, np.repeat(people, probes)


def leave_one_out_scores(
    embeddings: NDArray[np.float32], subject: NDArray[np.int64], subjects: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Mated scores of each reference against its subject's others, fused; and whose they are.

    Returns (m,) float32 and (m,) int64. Subjects with a single reference give none.
    """
    scores, owners = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)]
    for number in range(subjects):
        own = embeddings[subject == number].astype(np.float64)
        if len(own) < 2:
            continue
        others = own.sum(0) - own
        norm = np.maximum(np.linalg.norm(others, axis=1), 1e-12)
        scores.append(((own * others).sum(1) / norm).astype(np.float32))
        owners.append(np.full(len(own), number, np.int64))
    return np.concatenate(scores), np.concatenate(owners)
