"""The door: all that becomes of one frame, from the picture to the lock."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from limen.detection import Detector
from limen.device.admission import Admitter
from limen.device.lock import Lock, checked_pulse_s
from limen.device.recogniser import Recogniser
from limen.device.values import Admission, Decision, Frame, Verdict
from limen.embedder import Embedder
from limen.errors import NoFaceError, PictureError
from limen.recognition import FaceSample, acquire

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DoorStep:
    """What became of a frame. sample: None where no face was found; locked: after the step."""

    frame: Frame
    sample: FaceSample | None
    decision: Decision
    admission: Admission
    locked: bool


class Door:
    """Finds, recognises, counts votes and opens. Touches nothing outside but the lock.

    unlock_for_s: more than 0, at most 30, else LockError; min_quality: 0 to 1; min_face_px: width.
    """

    def __init__(
        self,
        detector: Detector,
        embedder: Embedder,
        recogniser: Recogniser,
        admitter: Admitter,
        lock: Lock,
        *,
        unlock_for_s: float = 3.0,
        min_quality: float = 0.0,
        min_face_px: float = 0.0,
    ) -> None:
        self._detector = detector
        self._embedder = embedder
        self._recogniser = recogniser
        self._admitter = admitter
        self._lock = lock
        self._unlock_for_s = checked_pulse_s(unlock_for_s)
        self._min_quality = min_quality
        self._min_face_px = min_face_px

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

    def step(self, frame: Frame) -> DoorStep:
        """Take one frame. Whatever is raised leaves the door locked."""
        try:
            sample = self._acquire(frame)
            decision = self._recogniser.decide(
                sample, frame, min_quality=self._min_quality, min_face_px=self._min_face_px
            )
            admission = self._admitter.consider(decision)
            if admission.verdict is Verdict.OPEN:
                self._lock.open_for(self._unlock_for_s)
            return DoorStep(frame, sample, decision, admission, self._lock.is_locked)
        except BaseException:
            self._lock.lock()
            raise

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
