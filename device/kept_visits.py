"""Guided visits as they are kept: scores, times and conditions; no picture and no probe.

Beside the visitor's own scores, the highest tenth of the scores against the cohort's strangers is
kept: the evidence of a condition (`limen.calibration.by_condition`). It is sealed with the
gallery's key like a template, and erased with its subject.
"""

from __future__ import annotations

import hashlib
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from limen.bundle import CohortEmbeddings
from limen.calibration.by_condition import StrangerScores
from limen.calibration.conditions import Condition
from limen.calibration.fusion import fuse, fused_probes
from limen.calibration.visits import Visit
from limen.device.guided import SeenVisit
from limen.device.subjects import References

MAX_LOOKS = 2000
KEPT_TAIL = 0.1


class KeptVisit(BaseModel):
    """A visit in the gallery. own, other: None for a failure to acquire.

    references: what the visitor's references were, as a hash: other ones void the scores. cohort:
    the same of the strangers; tail: the highest scores against them, with their places in
    `fused_probes(cohort, …, tail_frames)`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    at: str = Field(max_length=40, description="UTC, ISO 8601")
    condition: Condition
    light: float = Field(ge=0, le=255, description="median grey level of the frames")
    width_px: float = Field(ge=0, description="median width of the face")
    probe_frames: int = Field(ge=1, le=100)
    own: tuple[float | None, ...] = Field(min_length=1, max_length=MAX_LOOKS)
    other: tuple[float | None, ...]
    at_s: tuple[float, ...]
    track: tuple[int, ...]
    references: str
    cohort: str
    tail_frames: int = Field(ge=1)
    tail_place: tuple[int, ...] = ()
    tail_score: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        looks = {len(self.own), len(self.other), len(self.at_s), len(self.track)}
        if len(looks) != 1 or len(self.tail_place) != len(self.tail_score):
            raise ValueError("a visit's columns differ in length")
        return self

    def visit(self, subject: int) -> Visit:
        """For the numerics; subject: the visitor's number now."""
        return Visit(
            subject,
            np.array([-1.0 if score is None else score for score in self.own], np.float32),
            np.array([-1.0 if score is None else score for score in self.other], np.float32),
            np.array([score is not None for score in self.own], np.bool_),
            np.array(self.at_s, np.float64),
            np.array(self.track, np.int64),
        )


def scored(
    seen: SeenVisit,
    subject: int,
    references: References,
    cohort: CohortEmbeddings,
    *,
    probe_frames: int,
    at: str,
) -> KeptVisit:
    """The scores of a visit of enrolled person number `subject`; at: UTC, ISO 8601."""
    looks = slice(0, MAX_LOOKS)
    acquired = seen.acquired[looks]
    own = np.zeros(len(acquired))
    other = np.full(len(acquired), -1.0)
    templates = fuse(references.embeddings, references.subject, len(references.subject_ids))
    tail_frames = int((references.subject == subject).sum())
    place, tail = np.zeros(0, np.int64), np.zeros(0, np.float32)
    if acquired.any():
        scores = seen.probes[looks] @ templates.T
        own = scores[:, subject].astype(float)
        if len(templates) > 1:
            other = np.delete(scores, subject, axis=1).max(1).astype(float)
        if len(cohort.embeddings):
            strangers, _ = fused_probes(cohort.embeddings, cohort.subject, tail_frames)
            against = strangers @ seen.probes[looks][acquired][-1]
            kept = max(1, int(len(against) * KEPT_TAIL))
            place = np.sort(np.argpartition(-against, kept - 1)[:kept])
            tail = against[place]
    return KeptVisit(
        at=at,
        condition=seen.condition,
        light=seen.light,
        width_px=seen.width_px,
        probe_frames=probe_frames,
        own=_column(own, acquired),
        other=_column(other, acquired),
        at_s=tuple(float(second) for second in seen.at_s[looks]),
        track=tuple(int(number) for number in seen.track[looks]),
        references=reference_hash(references, subject),
        cohort=cohort_hash(cohort),
        tail_frames=tail_frames,
        tail_place=tuple(int(row) for row in place),
        tail_score=tuple(float(score) for score in tail),
    )


def usable_visits(
    kept: dict[str, list[KeptVisit]], references: References, probe_frames: int
) -> list[tuple[int, KeptVisit]]:
    """The visits whose scores still are of these references and probes, with the visitors' numbers."""
    found = []
    for number, name in enumerate(references.subject_ids):
        for visit in kept.get(name, []):
            same = visit.references == reference_hash(references, number)
            if same and visit.probe_frames == probe_frames:
                found.append((number, visit))
    return found


def against_strangers(
    usable: list[tuple[int, KeptVisit]], cohort: CohortEmbeddings
) -> list[StrangerScores]:
    """The visits' scores against the cohort, as far as they are of this cohort.

    What was not kept lay below the kept tail, and is given the lowest score.
    """
    found = []
    expected = cohort_hash(cohort)
    for number, visit in usable:
        if visit.cohort != expected or not visit.tail_place:
            continue
        _, stranger = fused_probes(cohort.embeddings, cohort.subject, visit.tail_frames)
        if max(visit.tail_place) >= len(stranger):
            continue
        scores = np.full(len(stranger), -1.0, np.float32)
        scores[list(visit.tail_place)] = visit.tail_score
        found.append(StrangerScores(number, scores, stranger))
    return found


def reference_hash(references: References, subject: int) -> str:
    """What tells a subject's references from others."""
    return _hash(references.embeddings[references.subject == subject])


def cohort_hash(cohort: CohortEmbeddings) -> str:
    """What tells a cohort from another."""
    return _hash(cohort.embeddings)


def _hash(rows: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows, "<f4").tobytes()).hexdigest()[:32]


def _column(scores: NDArray[np.float64], acquired: NDArray[np.bool_]) -> tuple[float | None, ...]:
    return tuple(
        float(score) if seen else None for score, seen in zip(scores, acquired, strict=True)
    )
