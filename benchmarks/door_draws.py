"""Random doors, and the truth of each: what everybody else of the part scores there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from door_embeddings import Part
from numpy.typing import NDArray

from limen.calibration.fusion import fuse, fused_probes


@dataclass
class Setup:
    """A door: who is enrolled, with which pictures, and which of theirs remain."""

    people: NDArray[np.int64]
    references: NDArray[np.int64]
    subject: NDArray[np.int64]
    remaining: NDArray[np.int64]
    remaining_subject: NDArray[np.int64]


def draw_door(part: Part, size: int, rng: np.random.Generator) -> Setup:
    """`size` people with at least three pictures; 2 to 4 of them enrolled, one or more kept back."""
    counts = np.bincount(part.person)
    people = rng.choice(np.flatnonzero(counts >= 3), size, replace=False)
    references, subject, remaining, remaining_subject = [], [], [], []
    for number, person in enumerate(people):
        rows = rng.permutation(np.flatnonzero(part.person == person))
        shots = min(int(rng.integers(2, 5)), len(rows) - 1)
        references.extend(rows[:shots])
        subject.extend([number] * shots)
        remaining.extend(rows[shots:])
        remaining_subject.extend([number] * (len(rows) - shots))
    return Setup(people, *map(np.array, (references, subject, remaining, remaining_subject)))


@dataclass
class Truth:
    """What the other people score at a door, and the enrolled people's remaining pictures."""

    non_mated: NDArray[np.float32]  # (probes, subjects)
    person: NDArray[np.int64]
    mated: NDArray[np.float32]

    def at(self, threshold: float, people: int) -> tuple[float, float, NDArray[np.int32]]:
        """FMR, FNMR, and false matches a person."""
        hit = (self.non_mated >= threshold).sum(1)
        counts = np.bincount(self.person, hit, people).astype(np.int32)
        return (
            float(hit.sum() / self.non_mated.size),
            float((self.mated < threshold).mean()),
            counts,
        )


def truth_of(part: Part, door: Setup, frames: int) -> Truth:
    templates = fuse(part.embedding[door.references], door.subject, len(door.people))
    out = ~np.isin(part.person, door.people)
    probes, person = fused_probes(part.embedding[out], part.person[out], frames)
    mated, owner = fused_probes(part.embedding[door.remaining], door.remaining_subject, frames)
    return Truth(probes @ templates.T, person, np.einsum("pd,pd->p", mated, templates[owner]))
