"""The door: all that becomes of one frame, from the picture to the lock."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from limen.detection import DetectedFace, Detector
from limen.device.following import Follower, FollowPolicy, TrackedShot, scaled_faces
from limen.device.lock import Lock, checked_pulse_s
from limen.device.recogniser import Recogniser
from limen.device.values import Admission, Decision, Frame, Outcome, Verdict
from limen.embedder import Embedder
from limen.errors import NoFaceError, PictureError
from limen.recognition import FaceSample, acquire

logger = logging.getLogger(__name__)

# The reason of a frame that no vote is counted for, good or bad.
BETTER_SHOT = "a better shot is awaited"


class Admits(Protocol):
    """Who decides on opening: an `Admitter`, or a `Gatekeeper` around one."""

    def clear(self) -> None:
        """Take back all votes."""
        ...

    def consider(self, decision: Decision) -> Admission:
        """Count one decision."""
        ...


@runtime_checkable
class Asks(Admits, Protocol):
    """Who decides on opening, and may ask for a second factor: a `Gatekeeper`."""

    def present(self, entry: str, now_s: float, may_enter: Callable[[str], bool]) -> Admission:
        """Somebody typed a PIN or showed a card; whether a subject may enter can be asked."""
        ...


@dataclass(frozen=True, slots=True)
class DoorStep:
    """What became of a frame. sample: None where no face was embedded; locked: after the step.

    With several tracks, the decision and admission are those of the one that opened, was asked or
    refused, else of the largest face.
    """

    frame: Frame
    sample: FaceSample | None
    decision: Decision
    admission: Admission
    locked: bool


class Door:
    """Finds, recognises, counts votes and opens. Touches nothing outside but the lock.

    follow: how faces are followed over time; without, each frame's nearest face stands alone.
    unlock_for_s: more than 0, at most 30, else LockError; min_quality: 0 to 1; min_face_px: width.
    """

    def __init__(
        self,
        detector: Detector,
        embedder: Embedder,
        recogniser: Recogniser,
        admitter: Admits,
        lock: Lock,
        *,
        unlock_for_s: float = 3.0,
        min_quality: float = 0.0,
        min_face_px: float = 0.0,
        follow: FollowPolicy | None = None,
    ) -> None:
        self._detector = detector
        self._embedder = embedder
        self._recogniser = recogniser
        self._admitter = admitter
        self._lock = lock
        self._unlock_for_s = checked_pulse_s(unlock_for_s)
        self._min_quality = min_quality
        self._min_face_px = min_face_px
        self._follower = (
            Follower(embedder, follow, min_quality=min_quality, min_face_px=min_face_px)
            if follow is not None
            else None
        )

    @property
    def model_id(self) -> str:
        """The model that the door's probes are made with."""
        return self._embedder.model_id

    @property
    def lock(self) -> Lock:
        """The lock that the door drives."""
        return self._lock

    @property
    def recogniser(self) -> Recogniser:
        """The recogniser in force."""
        return self._recogniser

    def replace_recogniser(self, recogniser: Recogniser) -> None:
        """Go on with another recogniser; votes that the old one gave are taken back."""
        self._recogniser = recogniser
        self._admitter.clear()

    def reconfigure(
        self,
        *,
        unlock_for_s: float,
        min_quality: float,
        min_face_px: float,
        follow: FollowPolicy | None = None,
    ) -> None:
        """Go on with other settings, without losing a track. LockError for an endless pulse."""
        self._unlock_for_s = checked_pulse_s(unlock_for_s)
        self._min_quality, self._min_face_px = min_quality, min_face_px
        if self._follower is not None and follow is not None:
            self._follower.reconfigure(follow, min_quality, min_face_px)

    def forget(self) -> None:
        """Take back all votes and forget all tracks, as after a camera was away."""
        self._admitter.clear()
        if self._follower is not None:
            self._follower.clear()

    def step(self, frame: Frame) -> DoorStep:
        """Take one frame. Whatever is raised leaves the door locked."""
        try:
            self._lock.beat()
            steps = self._followed(frame) if self._follower is not None else [self._alone(frame)]
            telling = (s for s in steps if s.admission.verdict is not Verdict.WAIT)
            return next(telling, steps[0])
        except BaseException:
            self._lock.lock()
            raise

    def present(self, entry: str, now_s: float) -> Admission:
        """Somebody typed a PIN or showed a card, at `now_s` on the frames' clock.

        Whatever is raised leaves the door locked. An admitter that asks for none does not listen.
        """
        if not isinstance(self._admitter, Asks):
            return Admission(Verdict.WAIT, None, 0, "nothing was asked")
        try:
            admission = self._admitter.present(entry, now_s, self._recogniser.may_enter)
            if admission.verdict is Verdict.OPEN:
                self._lock.open_for(self._unlock_for_s)
        except BaseException:
            self._lock.lock()
            raise
        return admission

    def _alone(self, frame: Frame) -> DoorStep:
        sample = self._acquire(frame)
        self._lock.beat()
        return self._decided(frame, sample, self._decision(frame, sample))

    def _followed(self, frame: Frame) -> list[DoorStep]:
        faces = self._find(frame)
        self._lock.beat()
        steps = []
        if self._follower is not None:
            for shot in self._follower.follow(
                frame.image, faces, frame.captured_at_s, self._recogniser.probe_frames
            ):
                self._lock.beat()
                steps.append(self._judged(frame, shot))
        return steps or [self._decided(frame, None, self._decision(frame, None))]

    def _find(self, frame: Frame) -> list[DetectedFace]:
        """The faces, in pixels of the large picture; found in the small one where there is one."""
        if frame.small is None:
            return self._detector.detect(frame.image)
        height, width = frame.image.shape[:2]
        small_height, small_width = frame.small.shape[:2]
        faces = self._detector.detect(frame.small)
        return scaled_faces(faces, width / small_width, height / small_height)

    def _judged(self, frame: Frame, shot: TrackedShot) -> DoorStep:
        if shot.sample is not None:
            decision = self._decision(frame, shot.sample, shot.track)
            return self._decided(frame, shot.sample, decision)
        decision = Decision(
            Outcome.FAILURE_TO_ACQUIRE,
            None,
            self._recogniser.threshold,
            frame.sequence,
            frame.captured_at_s,
            shot.quality,
            shot.face.box_xyxy,
            shot.faces,
            shot.track,
        )
        if shot.poor:
            return self._decided(frame, None, decision)
        waiting = Admission(Verdict.WAIT, None, 0, BETTER_SHOT)
        return DoorStep(frame, None, decision, waiting, self._lock.is_locked)

    def _decision(
        self, frame: Frame, sample: FaceSample | None, track: int | None = None
    ) -> Decision:
        return self._recogniser.decide(
            sample,
            frame,
            min_quality=self._min_quality,
            min_face_px=self._min_face_px,
            track=track,
        )

    def _decided(self, frame: Frame, sample: FaceSample | None, decision: Decision) -> DoorStep:
        admission = self._admitter.consider(decision)
        if admission.verdict is Verdict.OPEN:
            self._lock.open_for(self._unlock_for_s)
        return DoorStep(frame, sample, decision, admission, self._lock.is_locked)

    def _acquire(self, frame: Frame) -> FaceSample | None:
        try:
            return acquire(frame.image, self._detector, self._embedder)
        except NoFaceError:
            return None
        except PictureError as error:
            # A face that cannot be aligned is no reason to stop the door; an embedder that takes no
            # crop at all shows here, frame after frame.
            logger.warning("frame %d: failure to acquire: %s", frame.sequence, error)
            return None
