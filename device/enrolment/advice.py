"""What an enrolment would do to the gallery, before anything is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.fusion import fuse
from limen.device.enrolment.consistency import judge_together
from limen.device.enrolment.lookalikes import Lookalike, find_lookalikes
from limen.device.enrolment.shots import Shots
from limen.device.enrolment.strangers import Strangers
from limen.device.subjects import References, checked_subject_id
from limen.folder import FailureToAcquire


@dataclass(frozen=True, slots=True)
class Advice:
    """The shots to keep, and what keeping them would change.

    fpir: the false-positive identification rate at `threshold`, with its upper bound, before and
    after. calibrated: whether `threshold` is the gallery's own; else it is what one pair of the
    cohort's strangers in a thousand reaches.
    """

    shots: Shots
    lookalikes: tuple[Lookalike, ...]
    threshold: float
    calibrated: bool
    fpir_before: tuple[float, float]
    fpir_after: tuple[float, float]

    @property
    def duplicates(self) -> tuple[Lookalike, ...]:
        """Those who seem to be the same person under another id."""
        return tuple(lookalike for lookalike in self.lookalikes if lookalike.same_person)


def advise(
    shots: Shots,
    subject_id: str,
    enrolled: References,
    strangers: Strangers,
    operating_threshold: float | None,
) -> Advice:
    """Judge accepted shots together and against everybody enrolled. Nothing is written.

    operating_threshold: the gallery's, None where it was never calibrated.
    """
    name = checked_subject_id(subject_id)
    same_person = strangers.at_fmr_1e_3
    threshold = same_person if operating_threshold is None else operating_threshold
    size = strangers.embeddings.shape[1]
    own = own_references(enrolled, name, size)
    kept = kept_together(shots, own, same_person)
    new = kept.embeddings() if kept.accepted else np.zeros((0, size), np.float32)
    before = _templates(enrolled)
    after = _templates(enrolled, name, np.concatenate([own, new]))
    return Advice(
        shots=kept,
        lookalikes=tuple(find_lookalikes(new, enrolled, name, strangers, threshold)),
        threshold=threshold,
        calibrated=operating_threshold is not None,
        fpir_before=strangers.identification_rate(before, threshold),
        fpir_after=strangers.identification_rate(after, threshold),
    )


def own_references(enrolled: References, subject_id: str, size: int) -> NDArray[np.float32]:
    """The references (n, size) of one subject; (0, size) where it is not enrolled."""
    if subject_id not in enrolled.subject_ids:
        return np.zeros((0, size), np.float32)
    own = enrolled.subject == enrolled.subject_ids.index(subject_id)
    return np.asarray(enrolled.embeddings[own], np.float32)


def kept_together(shots: Shots, own: NDArray[np.float32], same_person: float) -> Shots:
    """The shots without those that do not fit the others, or add nothing to them.

    own: (n, D) references the subject has; same_person: as in `judge_together`.
    """
    if not shots.accepted:
        return shots
    reasons = judge_together(shots.embeddings(), own, shots.qualities(), same_person)
    pairs = list(zip(shots.accepted, reasons, strict=True))
    refused = tuple(FailureToAcquire(shot.name, reason) for shot, reason in pairs if reason)
    return Shots(
        accepted=tuple(shot for shot, reason in pairs if reason is None),
        refused=shots.refused + refused,
    )


def _templates(
    enrolled: References, name: str | None = None, own: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """(n, D) fused references, those of `name` replaced by or made of `own`."""
    rows = (
        fuse(enrolled.embeddings, enrolled.subject, len(enrolled.subject_ids))
        if enrolled.subject_ids
        else np.zeros((0, 0), np.float32)
    )
    if own is None or not len(own):
        return rows
    one = fuse(own, np.zeros(len(own), np.int64), 1)
    if name not in enrolled.subject_ids:
        return np.concatenate([rows, one]) if len(rows) else one
    rows = rows.copy()
    rows[enrolled.subject_ids.index(name)] = one[0]
    return rows
