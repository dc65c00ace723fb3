"""The values that pass through the door: frames in, decisions and admissions out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """A camera picture.

    image: (H, W, 3) uint8 RGB; captured_at_s: monotonic clock, seconds; sequence: counts up.
    """

    image: NDArray[np.uint8]
    captured_at_s: float
    sequence: int


class Outcome(StrEnum):
    """What became of a probe."""

    MATCH = "match"
    NO_MATCH = "no_match"
    FAILURE_TO_ACQUIRE = "failure_to_acquire"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A subject and the cosine score of the probe against the subject's fused references."""

    subject_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What the recogniser makes of one frame.

    candidate: the best one, matching or not; None on a failure to acquire or an empty gallery.
    box_xyxy: (4,) float32 px of the face that counted; quality: 0 to 1.
    """

    outcome: Outcome
    candidate: Candidate | None
    threshold: float
    sequence: int
    captured_at_s: float
    quality: float = 0.0
    box_xyxy: NDArray[np.float32] | None = None
    faces: int = 0


class Verdict(StrEnum):
    """What the door does after a frame."""

    WAIT = "wait"
    OPEN = "open"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Admission:
    """The door's answer to the votes so far. subject_id is set when the verdict is OPEN."""

    verdict: Verdict
    subject_id: str | None
    votes: int
    reason: str
