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
    small: the same view at a lower resolution, (h, w, 3) uint8 RGB, where the camera gives one:
    faces are found there and embedded from `image`.
    """

    image: NDArray[np.uint8]
    captured_at_s: float
    sequence: int
    small: NDArray[np.uint8] | None = None


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
    runner_up: the next best, of another subject. box_xyxy: (4,) float32 px of the face that
    counted; quality: 0 to 1. track: which visitor, None where none is followed. lookalike: whether
    the candidate's references match somebody else's.
    """

    outcome: Outcome
    candidate: Candidate | None
    threshold: float
    sequence: int
    captured_at_s: float
    quality: float = 0.0
    box_xyxy: NDArray[np.float32] | None = None
    faces: int = 0
    track: int | None = None
    runner_up: Candidate | None = None
    lookalike: bool = False


class Verdict(StrEnum):
    """What the door does after a frame. ASK: a second factor is awaited."""

    WAIT = "wait"
    ASK = "ask"
    OPEN = "open"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Admission:
    """The door's answer to the votes so far. subject_id is set when the verdict is OPEN or ASK.

    contested: whether a vote was for a lookalike, or too close to another subject.
    """

    verdict: Verdict
    subject_id: str | None
    votes: int
    reason: str
    contested: bool = False
