"""One template a subject: how references are fused, at the door and in calibration alike."""

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


def leave_one_out_scores(
    embeddings: NDArray[np.float32], subject: NDArray[np.int64], subjects: int
) -> NDArray[np.float32]:
    """Mated scores of each reference against its subject's others, fused; (m,) float32.

    Subjects with a single reference give none.
    """
    scores = []
    for number in range(subjects):
        own = embeddings[subject == number].astype(np.float64)
        if len(own) < 2:
            continue
        others = own.sum(0) - own
        norm = np.maximum(np.linalg.norm(others, axis=1), 1e-12)
        scores.append(((own * others).sum(1) / norm).astype(np.float32))
    return np.concatenate(scores) if scores else np.zeros(0, np.float32)
