"""Recognition: a probe against everybody (identification) or one claimed subject (verification)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from limen.calibration.conditions import Condition, condition_of
from limen.calibration.fusion import fuse
from limen.device.matching import ExactSearch, Search
from limen.device.permission import Permission
from limen.device.subjects import References, checked_subject_id
from limen.device.values import Candidate, Decision, Frame, Outcome
from limen.errors import CalibrationError, ModelMismatchError, SubjectNotFoundError
from limen.recognition import FaceSample


class Recogniser:
    """Compares probes with each subject's fused references; `score >= threshold` matches.

    A probe that is at least as much like a negative of a subject as like the subject does not match
    it: that person was taken for the subject before.
    CalibrationError where a subject's references cannot be fused, or the threshold is no cosine.
    """

    def __init__(
        self,
        references: References,
        threshold: float,
        *,
        probe_frames: int = 1,
        permission: Permission | None = None,
        find_lookalikes: bool = False,
        lookalikes: frozenset[str] = frozenset(),
        by_condition: Mapping[Condition, float] | None = None,
    ) -> None:
        """probe_frames: of how many frames a probe may be fused; the threshold's bound holds for no
        more, since strangers' fused probes score higher.

        permission: who may enter when `decide` is asked; everybody where none is given.

        find_lookalikes: whether to compare all subjects with each other first; quadratic in their
        number. lookalikes: who is known to look like somebody else already.

        by_condition: the thresholds by day and night, where they differ; `threshold` where a
        comparison is of no frame.
        """
        # An operating point may lie just above 1: the next number after a stranger's score of 1.
        if not (math.isfinite(threshold) and -1 <= threshold <= 1.0001):
            raise CalibrationError(
                f"threshold: expected a cosine from -1 to 1, found {threshold}: "
                "run 'limen calibrate' again"
            )
        self._threshold = threshold
        self._by_condition = dict(by_condition or {})
        if any(not threshold <= own <= 1.0001 for own in self._by_condition.values()):
            raise CalibrationError(
                "a threshold by day or night lies below the general one, or is no cosine: "
                "run 'limen calibrate' again"
            )
        self._probe_frames = probe_frames
        self._subject_ids = references.subject_ids
        self._row = {name: row for row, name in enumerate(self._subject_ids)}
        self._size = references.embeddings.shape[1]
        self._permission = permission
        templates = fused(references)
        self._search: Search = references.search or ExactSearch(templates)
        self._negatives = {
            row: references.negatives[references.negative_subject == row]
            for row in set(references.negative_subject.tolist())
        }
        self._lookalikes = lookalikes
        if find_lookalikes:
            self._lookalikes |= lookalikes_among(templates, self._subject_ids, threshold)

    @property
    def lookalikes(self) -> frozenset[str]:
        """Whose fused references match another subject's at the threshold, and who was named so."""
        return self._lookalikes

    @property
    def probe_frames(self) -> int:
        """Of how many frames at most a probe may be fused."""
        return self._probe_frames

    @property
    def threshold(self) -> float:
        """The lowest score that matches."""
        return self._threshold

    @property
    def subject_ids(self) -> tuple[str, ...]:
        """Everybody the probe is compared with, sorted."""
        return self._subject_ids

    def identify(
        self,
        probe: NDArray[np.float32],
        top: int | None = None,
        among: NDArray[np.bool_] | None = None,
    ) -> list[Candidate]:
        """The `top` subjects, all where None, best first, matching or not; ties by their ids.

        probe: (D,) float32, unit norm; among: (subjects,) those who count, in the order of
        `subject_ids`; the others are not compared. Whoever a negative rules out is left out.
        ModelMismatchError for another D than the references'.
        """
        if not self._subject_ids:
            return []
        self._check(probe)
        count = len(self._subject_ids) if top is None else top + len(self._negatives)
        rows, scores = self._search.best(probe, count, among)
        found = [
            Candidate(self._subject_ids[row], float(score))
            for row, score in zip(rows, scores, strict=True)
            if not self._is_ruled_out(probe, int(row), float(score))
        ]
        return found[:top]

    def verify(self, probe: NDArray[np.float32], subject_id: str) -> Candidate:
        """The score of a probe (D,) against the subject whom it claims to be.

        It is -1 where a negative of the subject rules the probe out. SubjectNotFoundError where
        nobody is enrolled under that id; ModelMismatchError for another D than the references'.
        """
        name = checked_subject_id(subject_id)
        row = self._row.get(name)
        if row is None:
            raise SubjectNotFoundError(
                "nobody is enrolled under that subject id: 'limen subjects' lists who is"
            )
        self._check(probe)
        score = self._search.score(probe, row)
        return Candidate(name, -1.0 if self._is_ruled_out(probe, row, score) else score)

    def threshold_for(self, frame: Frame) -> float:
        """The threshold for the light in which a frame was taken."""
        if not self._by_condition:
            return self._threshold
        strictest = max(self._threshold, *self._by_condition.values())
        return self._by_condition.get(condition_of(frame.image), strictest)

    def matches(self, candidate: Candidate) -> bool:
        """Whether the candidate's score reaches the threshold."""
        return candidate.score >= self._threshold

    def may_enter(self, subject_id: str) -> bool:
        """Whether the subject is enrolled and may enter now."""
        row = self._row.get(subject_id)
        if row is None:
            return False
        among = self._permission.now() if self._permission is not None else None
        return among is None or bool(among[row])

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
        Whoever may not enter now is not compared: at that hour, a stranger.
        track: which visitor the sample is of, where visitors are followed.
        """
        if sample is None:
            return Decision(
                Outcome.FAILURE_TO_ACQUIRE,
                None,
                self.threshold_for(frame),
                frame.sequence,
                frame.captured_at_s,
            )
        threshold = self.threshold_for(frame)
        outcome, candidate, runner_up = Outcome.FAILURE_TO_ACQUIRE, None, None
        if sample.quality >= min_quality and sample.face.width_px >= min_face_px:
            among = self._permission.now() if self._permission is not None else None
            best = self.identify(sample.embedding, 2, among)
            candidate = best[0] if best else None
            runner_up = best[1] if len(best) > 1 else None
            matched = candidate is not None and candidate.score >= threshold
            outcome = Outcome.MATCH if matched else Outcome.NO_MATCH
        return Decision(
            outcome=outcome,
            candidate=candidate,
            threshold=threshold,
            sequence=frame.sequence,
            captured_at_s=frame.captured_at_s,
            quality=sample.quality,
            box_xyxy=sample.face.box_xyxy,
            faces=sample.faces,
            track=track,
            runner_up=runner_up,
            lookalike=candidate is not None and candidate.subject_id in self._lookalikes,
        )

    def _is_ruled_out(self, probe: NDArray[np.float32], row: int, score: float) -> bool:
        negatives = self._negatives.get(row)
        return negatives is not None and float((negatives @ probe).max()) >= score

    def _check(self, probe: NDArray[np.float32]) -> None:
        if probe.shape != (self._size,):
            raise ModelMismatchError(
                f"references have {self._size} values, the probe has shape "
                f"{probe.shape}: use the bundle that the gallery was enrolled with"
            )


def fused(references: References) -> NDArray[np.float32]:
    """One template a subject, (subjects, D) float32; (0, 0) for an empty gallery."""
    if not references.subject_ids:
        return np.zeros((0, 0), np.float32)
    if references.search is not None:
        return references.embeddings
    return fuse(references.embeddings, references.subject, len(references.subject_ids))


def lookalikes_among(
    templates: NDArray[np.float32], subject_ids: tuple[str, ...], threshold: float
) -> frozenset[str]:
    """Whose template, (subjects, D) float32 of unit norm, matches another's at the threshold."""
    found: set[str] = set()
    rows = 256  # a block of the square at a time, for a board's memory
    for first in range(0, len(templates), rows):
        scores = templates[first : first + rows] @ templates.T
        mine = np.arange(len(scores))
        scores[mine, first + mine] = -np.inf
        alike = np.flatnonzero((scores >= threshold).any(axis=1))
        found.update(subject_ids[first + index] for index in alike)
    return frozenset(found)
