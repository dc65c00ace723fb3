"""From a visit to a reference, where the owner turned that on: what the door hands to the gallery."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from limen.device.door import DoorStep
from limen.device.events import Event, EventKind
from limen.device.gallery import Gallery
from limen.device.gallery.adaptation import adapt, read_policy
from limen.device.trusted_clock import WallTime, believed_now
from limen.device.values import Candidate, Verdict
from limen.errors import LimenError

logger = logging.getLogger(__name__)


class Adapter:
    """Watches a running door, step by step and event by event.

    A visit counts where the door opened for it, alone in the picture, and nobody else is enrolled
    who is nearly as alike; where a second factor is asked for, only once it was given. Everything
    else is the gallery's to judge. What cannot be kept is logged and stops no door. While the gallery
    moves to another model, nothing is added.
    """

    def __init__(
        self,
        gallery: Gallery,
        model_id: str,
        identify: Callable[[NDArray[np.float32]], list[Candidate]],
        wall_clock: Callable[[], WallTime] = believed_now,
    ) -> None:
        """model_id: of the door's probes; identify: the two most alike of everybody enrolled, whoever
        may enter now.
        """
        self._gallery = gallery
        self._model_id = model_id
        self._identify = identify
        self._wall_clock = wall_clock
        self._asked: DoorStep | None = None

    def see(self, step: DoorStep) -> None:
        """Take a step: that of a door which opened, or asked for a second factor."""
        if step.admission.verdict is Verdict.OPEN:
            self._offer(step)
        elif step.admission.verdict is Verdict.ASK:
            self._asked = step

    def emit(self, event: Event) -> None:
        """Take an event: the second factor of whoever was asked was given, or refused."""
        asked = self._asked
        if asked is None or event.decision is not None:
            return
        if event.kind in (EventKind.OPENED, EventKind.REFUSED):
            self._asked = None
        if event.kind is EventKind.OPENED and event.subject_id == asked.admission.subject_id:
            self._offer(asked)

    def _offer(self, step: DoorStep) -> None:
        decision, sample = step.decision, step.sample
        subject_id, candidate = step.admission.subject_id, decision.candidate
        if sample is None or candidate is None or candidate.subject_id != subject_id:
            return
        if decision.faces != 1 or decision.lookalike:
            return
        wall = self._wall_clock()
        if not wall.trusted:  # how long ago the last one was cannot be told
            return
        try:
            policy = read_policy(self._gallery.store)
            if policy is None:
                return
            if self._gallery.move_under_way() is not None:
                return
            # The decision's own runner-up leaves out who may not enter at this hour.
            alike = (decision.runner_up, *self._identify(sample.embedding))
            others = [c.score for c in alike if c is not None and c.subject_id != subject_id]
            if others and candidate.score - max(others) < policy.above:
                return
            refusal = adapt(
                self._gallery.store,
                subject_id,
                sample.embedding,
                sample.quality,
                wall.now,
                model_id=self._model_id,
            )
        except (LimenError, ValueError) as error:  # whatever it is, it stops no door
            logger.warning("no reference was added: %s", error)
            return
        logger.info("a reference was %s", f"not added: {refusal}" if refusal else "added")
