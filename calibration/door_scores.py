"""The scores of the door's own comparison, mated and not, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.cluster_prior import ClusterPrior, stand_ins
from limen.calibration.fusion import fuse, fused_probes, leave_one_out_scores
from limen.errors import CalibrationError


@dataclass(frozen=True, slots=True)
class DoorScores:
    """A probe against one subject's fused references, many times over.

    mated (m,) with mated_subject (m,); non_mated (n,) with stranger (n,), the person whose probe it
    was: numbers from 0 for the cohort's people, negative ones for enrolled people held against
    others. best (q,) with best_stranger (q,): a stranger's highest score over the whole gallery,
    one a probe, from the cohort, or from the enrolled where there is none; best_subject (q,): whose
    it was, a column of the templates (None: take all as one). prior, best_prior: how much
    comparisons of one stranger are alike at galleries of this size, where a cohort tells.
    """

    mated: NDArray[np.float32]
    mated_subject: NDArray[np.int64]
    non_mated: NDArray[np.float32]
    stranger: NDArray[np.int64]
    best: NDArray[np.float32]
    best_stranger: NDArray[np.int64]
    prior: ClusterPrior | None = None
    best_prior: ClusterPrior | None = None
    best_subject: NDArray[np.int64] | None = None

    @classmethod
    def independent(cls, mated: NDArray[np.float32], non_mated: NDArray[np.float32]) -> DoorScores:
        """Scores of which each is of another person, against a gallery of one."""
        people = np.arange(len(non_mated))
        return cls(mated, np.arange(len(mated)), non_mated, people, non_mated, people)


def door_scores(
    references: NDArray[np.float32],
    subject: NDArray[np.int64],
    subjects: int,
    cohort: NDArray[np.float32],
    cohort_subject: NDArray[np.int64] | None = None,
    *,
    probe_frames: int = 1,
) -> DoorScores:
    """Mated scores by leaving one reference out; non-mated ones against the others and the cohort.

    references: (n, D), unit norm; subject: (n,), 0..subjects-1; cohort: (m, D), unit norm;
    cohort_subject: (m,), 0 or more; everybody a stranger of his own where not given; probe_frames:
    how many frames of a track the door fuses into a probe.
    CalibrationError for a cohort of another embedding size.
    """
    if len(cohort) and cohort.shape[1] != references.shape[1]:
        raise CalibrationError(
            f"the cohort's embeddings have {cohort.shape[1]} values, the gallery's "
            f"{references.shape[1]}: it is a cohort of another model; use the bundle that the "
            "gallery was enrolled with"
        )
    templates = fuse(references, subject, subjects)
    people = np.arange(len(cohort)) if cohort_subject is None else cohort_subject
    mated, owner = leave_one_out_scores(references, subject, subjects)
    probes, who = fused_probes(references, subject, probe_frames)
    among = probes @ templates.T
    others = who[:, None] != np.arange(subjects)[None, :]
    scores_parts = [among[others]]
    stranger_parts = [np.repeat(-1 - who, subjects - 1)]
    prior = best_prior = None
    if len(cohort):
        strangers, number = fused_probes(cohort, people, probe_frames)
        against = strangers @ templates.T
        scores_parts.append(against.ravel())
        stranger_parts.append(np.repeat(number, subjects))
        shots = max(1, round(len(references) / subjects))
        if (played := stand_ins(cohort, people, strangers, number, shots)) is not None:
            prior, best_prior = played.against_subjects(subjects), played.against_the_best(subjects)
    else:
        against, number = np.where(others, among, -np.inf)[:, : subjects * (subjects > 1)], -1 - who
    found = against.shape[1] > 0
    return DoorScores(
        mated=mated,
        mated_subject=owner,
        non_mated=np.concatenate(scores_parts),
        stranger=np.concatenate(stranger_parts),
        best=against.max(1) if found else np.zeros(0, np.float32),
        best_stranger=number if found else np.zeros(0, np.int64),
        best_subject=against.argmax(1) if found else np.zeros(0, np.int64),
        prior=prior,
        best_prior=best_prior,
    )
