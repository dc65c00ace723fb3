"""Recognition: a probe against everybody (identification) or one claimed subject (verification)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from limen.calibration.fusion import fuse
from limen.device.subjects import References, checked_subject_id
from limen.device.values import Candidate, Decision, Frame, Outcome
from limen.errors import CalibrationError, ModelMismatchError, SubjectNotFoundError
from limen.recognition import FaceSample


class Recogniser:
    """Compares probes with each subject's fused references; `score >= threshold` matches.

    find_lookalikes: whether to compare all subjects with each other first; quadratic in their
    number. CalibrationError where a subject's references cannot be fused, or the threshold is no
    cosine.
    """

    def __init__(
        self, references: References, threshold: float, *, find_lookalikes: bool = False
    ) -> None:
        # An operating point may lie just above 1: the next number after a stranger's score of 1.
        if not (math.isfinite(threshold) and -1 <= threshold <= 1.0001):
            raise CalibrationError(
                f"threshold: expected a cosine from -1 to 1, found {threshold}: "
                "run 'limen calibrate' again"
            )
        self._threshold = threshold
        self._subject_ids = references.subject_ids
        self._templates = (
            fuse(references.embeddings, references.subject, len(references.subject_ids))
            if references.subject_ids
            else np.zeros((0, 0), np.float32)
        )
        self._lookalikes = self._find_lookalikes() if find_lookalikes else frozenset()

    @property
    def lookalikes(self) -> frozenset[str]:
        """The subjects whose fused references match another subject's at the threshold."""
        return self._lookalikes

    @property
    def threshold(self) -> float:
        """The lowest score that matches."""
        return self._threshold

    @property
    def subject_ids(self) -> tuple[str, ...]:
        """Everybody the probe is compared with, sorted."""
        return self._subject_ids

    def identify(self, probe: NDArray[np.float32]) -> list[Candidate]:
        """All subjects, best first, matching or not; ties in the order of their ids.

        probe: (D,) float32, unit norm. ModelMismatchError for another D than the references'.
        """
        scores = self._scores(probe)
        return [
            Candidate(self._subject_ids[index], float(scores[index]))
            for index in np.argsort(-scores, kind="stable")
        ]

    def verify(self, probe: NDArray[np.float32], subject_id: str) -> Candidate:
        """The score of a probe (D,) against the subject whom it claims to be.

        SubjectNotFoundError where nobody is enrolled under that id; ModelMismatchError for another
        D than the references'.
        """
        name = checked_subject_id(subject_id)
        if name not in self._subject_ids:
            raise SubjectNotFoundError(
                "nobody is enrolled under that subject id: 'limen subjects' lists who is"
            )
        return Candidate(name, float(self._scores(probe)[self._subject_ids.index(name)]))

    def matches(self, candidate: Candidate) -> bool:
        """Whether the candidate's score reaches the threshold."""
        return candidate.score >= self._threshold

    def decide(
        self,
        sample: FaceSample | None,
        frame: Frame,
        *,
        min_quality: float = 0.0,
        min_face_px: float = 0.0,
        track: int | None = None,
    ) -> Decision:
        """What becomes of a frame and the sample taken from it, None where no face was found.

        A face below `min_quality` (0 to 1) or narrower than `min_face_px` is a failure to acquire.
        track: which visitor the sample is of, where visitors are followed.
        """
        if sample is None:
            return Decision(
                Outcome.FAILURE_TO_ACQUIRE,
                None,
                self._threshold,
                frame.sequence,
                frame.captured_at_s,
            )
        outcome, candidate, runner_up = Outcome.FAILURE_TO_ACQUIRE, None, None
        if sample.quality >= min_quality and sample.face.width_px >= min_face_px:
            candidate, runner_up = self._best_two(sample.embedding)
            matched = candidate is not None and self.matches(candidate)
            outcome = Outcome.MATCH if matched else Outcome.NO_MATCH
        return Decision(
            outcome=outcome,
            candidate=candidate,
            threshold=self._threshold,
            sequence=frame.sequence,
            captured_at_s=frame.captured_at_s,
            quality=sample.quality,
            box_xyxy=sample.face.box_xyxy,
            faces=sample.faces,
            track=track,
            runner_up=runner_up,
            lookalike=candidate is not None and candidate.subject_id in self._lookalikes,
        )

    def _best_two(self, probe: NDArray[np.float32]) -> tuple[Candidate | None, Candidate | None]:
        """The best candidate and the next, without sorting ten thousand."""
        scores = self._scores(probe)
        found: list[Candidate | None] = []
        for _ in range(min(2, len(scores))):
            best = int(scores.argmax())  # the first of equals, as in `identify`
            found.append(Candidate(self._subject_ids[best], float(scores[best])))
            scores[best] = -np.inf
        found += [None, None]
        return found[0], found[1]

    def _find_lookalikes(self) -> frozenset[str]:
        found: set[str] = set()
        rows = 256  # a block of the square at a time, for a board's memory
        for first in range(0, len(self._templates), rows):
            scores = self._templates[first : first + rows] @ self._templates.T
            mine = np.arange(len(scores))
            scores[mine, first + mine] = -np.inf
            alike = np.flatnonzero((scores >= self._threshold).any(axis=1))
            found.update(self._subject_ids[first + index] for index in alike)
        return frozenset(found)

    def _scores(self, probe: NDArray[np.float32]) -> NDArray[np.float32]:
        """A fresh array, (subjects,) float32."""
        if not self._subject_ids:
            return np.zeros(0, np.float32)
        if probe.shape != self._templates.shape[1:]:
            raise ModelMismatchError(
                f"references have {self._templates.shape[1]} values, the probe has shape "
                f"{probe.shape}: use the bundle that the gallery was enrolled with"
            )
        scores: NDArray[np.float32] = self._templates @ probe
        return scores
