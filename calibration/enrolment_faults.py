"""Faults of an enrolment that would make a calibration lie: one picture twice, one person twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.fusion import fuse
from limen.errors import CalibrationError

SAME_PICTURE = 0.9999  # cosine of two embeddings of one picture, rounding apart
# Without a cohort that shows what one person's pictures look like.
FALLBACK_SAME_PERSON = 0.9


@dataclass(frozen=True, slots=True)
class EnrolmentFaults:
    """copies: subjects all of whose references, two or more, are one picture.

    one_person: pairs of subjects as alike as two halves of one person's pictures usually are.
    """

    copies: tuple[int, ...]
    one_person: tuple[tuple[int, int], ...]

    def raise_for(self, subject_ids: Sequence[str], accept_lookalikes: bool) -> None:
        """EnrolmentFaultError for the first fault; lookalikes may be accepted."""
        if self.copies:
            raise EnrolmentFaultError(
                "all references of one subject are the same picture, which says nothing of how "
                "different pictures of that person compare: remove the subject and enrol again "
                "with different pictures",
                (subject_ids[self.copies[0]],),
            )
        if self.one_person and not accept_lookalikes:
            raise EnrolmentFaultError(
                "two subjects are as alike as one person: if they are one, remove one of them with "
                "'limen subjects remove'; if they are two people, run it again with "
                "--accept-lookalikes, and expect each to be taken for the other",
                tuple(subject_ids[number] for number in self.one_person[0]),
            )


class EnrolmentFaultError(CalibrationError):
    """The gallery holds something that would make a calibration lie.

    subject_ids: who it is about, for the owner's eyes; the message does not carry them.
    """

    def __init__(self, message: str, subject_ids: tuple[str, ...]) -> None:
        super().__init__(message)
        self.subject_ids = subject_ids


def find_faults(
    references: NDArray[np.float32],
    subject: NDArray[np.int64],
    subjects: int,
    cohort: NDArray[np.float32],
    cohort_subject: NDArray[np.int64],
) -> EnrolmentFaults:
    """What is wrong with an enrolment. Shapes as for `door_scores`."""
    copies = []
    for number in range(subjects):
        own = references[subject == number]
        if len(own) > 1 and float((own @ own[0]).min()) >= SAME_PICTURE:
            copies.append(number)
    templates = fuse(references, subject, subjects)
    alike = np.triu(templates @ templates.T, 1)
    level = same_person_level(cohort, cohort_subject)
    pairs = tuple((int(a), int(b)) for a, b in np.argwhere(alike >= level))
    return EnrolmentFaults(tuple(copies), pairs)


def same_person_level(cohort: NDArray[np.float32], cohort_subject: NDArray[np.int64]) -> float:
    """The median cosine between two fused halves of one person's pictures, over the cohort.

    Half of all people enrolled twice are as alike as that or more. Where the cohort holds fewer
    than ten people with four pictures, a fixed high cosine.
    """
    scores = []
    people, counts = np.unique(cohort_subject, return_counts=True)
    for person in people[counts >= 4]:
        own = cohort[cohort_subject == person]
        both = fuse(own, np.arange(len(own)) % 2, 2)
        scores.append(float(both[0] @ both[1]))
    return float(np.median(scores)) if len(scores) >= 10 else FALLBACK_SAME_PERSON
