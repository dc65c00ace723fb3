"""The running door's memory of its visits: whether they still look as after the calibration."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from limen.calibration.conditions import light_level
from limen.calibration.drift import DriftState, VisitMarks
from limen.calibration.operating_point import OperatingPoint
from limen.device.door import DoorStep
from limen.device.gallery import Gallery
from limen.device.values import Outcome, Verdict
from limen.errors import LimenError

# A visit is over once no face was seen for so long.
VISIT_GAP_S = 5.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Underway:
    """The visit that is going on: sums, no picture, nobody's name."""

    last_s: float
    looks: int = 0
    quality: float = 0.0
    light: float = 0.0
    matched: bool = False
    refused: bool = False
    best_other: float | None = None
    best: float | None = None

    def marks(self) -> VisitMarks:
        score = self.best_other if self.matched else self.best
        return VisitMarks(
            score=score,
            quality=min(1.0, max(0.0, self.quality / self.looks)),
            light=min(255.0, max(0.0, self.light / self.looks)),
            refused=self.refused,
        )


class DriftMonitor:
    """Sees every step of a door; keeps a few numbers a visit in the gallery, sealed.

    It survives restarts, and starts anew with each operating point. tell: called with the reasons,
    a sentence each, once when there are any. What it cannot write it lets go with a warning: the
    door does not depend on it.
    """

    def __init__(self, gallery: Gallery, tell: Callable[[tuple[str, ...]], None]) -> None:
        self._gallery = gallery
        self._tell = tell
        self._underway: _Underway | None = None
        self._failed = False

    def see(self, step: DoorStep) -> None:
        """Take one step."""
        now_s = step.frame.captured_at_s
        visit = self._underway
        if visit is not None and not 0 <= now_s - visit.last_s <= VISIT_GAP_S:
            self._end()
        decision = step.decision
        if decision.box_xyxy is None:
            return
        visit = self._underway = self._underway or _Underway(now_s)
        visit.last_s = now_s
        visit.looks += 1
        visit.quality += decision.quality
        visit.light += light_level(step.frame.image)
        visit.refused |= step.admission.verdict is Verdict.REFUSE
        if decision.outcome is Outcome.MATCH:
            visit.matched = True
            if decision.runner_up is not None:
                visit.best_other = _higher(visit.best_other, decision.runner_up.score)
        elif decision.outcome is Outcome.NO_MATCH and decision.candidate is not None:
            visit.best = _higher(visit.best, decision.candidate.score)

    def close(self) -> None:
        """End the visit that is going on. Closing twice is harmless."""
        self._end()

    def _end(self) -> None:
        visit, self._underway = self._underway, None
        if visit is None:
            return
        try:
            before = drift_state(self._gallery)
            if before is None:
                return
            after = before.after(visit.marks())
            self._gallery.keep_drift(after)
        except (LimenError, ValueError) as error:
            if not self._failed:
                logger.warning("drift is not watched: %s", error)
            self._failed = True
            return
        self._failed = False
        if after.reasons and not before.reasons:
            logger.warning("recalibrate: %s", "; ".join(after.reasons))
            self._tell(after.reasons)


def drift_state(gallery: Gallery) -> DriftState | None:
    """What is known of drift since the operating point in force; None where there is none."""
    point = gallery.operating_point()
    return DriftState.from_stored(gallery.stored_drift(), _mark(point)) if point else None


def drift_reasons(gallery: Gallery) -> tuple[str, ...]:
    """Why the door should be calibrated again, a sentence each; none where it need not."""
    state = drift_state(gallery)
    return state.reasons if state is not None else ()


def _mark(point: OperatingPoint) -> str:
    return hashlib.sha256(point.model_dump_json().encode()).hexdigest()[:32]


def _higher(best: float | None, score: float) -> float:
    return score if best is None else max(best, score)
