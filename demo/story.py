"""What happened at the door: a moment a frame, a summary a visit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.demo.script import Presence, Truth
from limen.device.values import Admission, Decision, Outcome, Verdict
from limen.recognition import FaceSample

KEY_MOMENTS = 5
VISIT_GAP_S = 1.5  # a live camera that sees no face for so long has seen the visitor leave


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame, what it showed in truth, and what the door made of it.

    score: cosine of the best candidate, None without a face; locked: after the frame was judged;
    box_xyxy: (4,) px; landmarks_xy: (5, 2) px.
    """

    sequence: int
    at_s: float
    truth: Truth
    outcome: Outcome
    verdict: Verdict
    locked: bool
    threshold: float
    score: float | None = None
    subject_id: str | None = None
    reason: str = ""
    box_xyxy: NDArray[np.float32] | None = None
    landmarks_xy: NDArray[np.float32] | None = None
    picture: Path | None = None

    @property
    def acquired(self) -> bool:
        """Whether a face was found and compared."""
        return self.outcome is not Outcome.FAILURE_TO_ACQUIRE


@dataclass(frozen=True, slots=True)
class VisitSummary:
    """A visit as a whole.

    opened_after_s: from the first frame with a face to the opening, None where the door stayed
    shut; key: up to KEY_MOMENTS moments worth a picture, in order.
    """

    number: int
    presence: Presence
    name: str | None
    from_s: float
    until_s: float
    frames: int
    acquired: int
    matches: int
    best_score: float | None
    conditions: tuple[str, ...]
    opened: bool
    refused: bool
    opened_after_s: float | None
    key: tuple[Moment, ...]

    @property
    def as_it_should(self) -> bool | None:
        """Whether the door did right; None where nobody wrote down who it was."""
        if self.presence is Presence.UNKNOWN:
            return None
        return self.opened == (self.presence is Presence.ENROLLED)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """How the demonstration went.

    opened: visits of the enrolled person that ended with an open door, missed: those that did not;
    refused: visits of strangers before a shut door; wrong_openings: any other visit that opened
    it; unknown: visits before a live camera, where there is no truth to judge by.
    """

    visits: tuple[VisitSummary, ...]
    moments: tuple[Moment, ...]
    opened: int
    refused: int
    wrong_openings: int
    missed: int
    unknown: int = 0
    page: Path | None = None
    frames: Path | None = None

    @property
    def ok(self) -> bool:
        """The door opened for every visit of the enrolled person, and for nobody else."""
        return self.wrong_openings == 0 and self.missed == 0


def moment_of(
    truth: Truth,
    decision: Decision,
    admission: Admission,
    sample: FaceSample | None,
    *,
    at_s: float,
    locked: bool,
    picture: Path | None = None,
) -> Moment:
    """What is kept of a step of the door: neither its image nor its embedding."""
    candidate = decision.candidate
    return Moment(
        sequence=decision.sequence,
        at_s=at_s,
        truth=truth,
        outcome=decision.outcome,
        verdict=admission.verdict,
        locked=locked,
        threshold=decision.threshold,
        score=candidate.score if candidate else None,
        subject_id=candidate.subject_id if candidate else None,
        reason=admission.reason,
        box_xyxy=sample.face.box_xyxy if sample else decision.box_xyxy,
        landmarks_xy=sample.face.landmarks_xy if sample else None,
        picture=picture,
    )


def summarise(moments: Sequence[Moment]) -> tuple[VisitSummary, ...]:
    """One summary for each visit of the script, the empty ones included, in order."""
    return tuple(
        _summary(number, list(group))
        for number, group in groupby(moments, key=lambda moment: moment.truth.visit)
    )


def result_of(moments: Sequence[Moment]) -> DemoResult:
    """Count what the door did right and wrong."""
    visits = summarise(moments)
    enrolled = [visit for visit in visits if visit.presence is Presence.ENROLLED]
    strangers = [visit for visit in visits if visit.presence is Presence.STRANGER]
    return DemoResult(
        visits=visits,
        moments=tuple(moments),
        opened=sum(visit.opened for visit in enrolled),
        missed=sum(not visit.opened for visit in enrolled),
        refused=sum(not visit.opened for visit in strangers),
        wrong_openings=sum(
            visit.opened
            for visit in visits
            if visit.presence in (Presence.STRANGER, Presence.NOBODY)
        ),
        unknown=sum(visit.presence is Presence.UNKNOWN for visit in visits),
    )


def live_truths(faces_at_s: Sequence[float | None]) -> list[Truth]:
    """Visits before a live camera: faces less than VISIT_GAP_S apart belong to one.

    faces_at_s: for each frame its time in seconds where a face was acquired, else None.
    """
    seen = [(index, at_s) for index, at_s in enumerate(faces_at_s) if at_s is not None]
    spans: list[tuple[int, int]] = []
    last_s = -np.inf
    for index, at_s in seen:
        if spans and at_s - last_s <= VISIT_GAP_S:
            spans[-1] = (spans[-1][0], index)
        else:
            spans.append((index, index))
        last_s = at_s
    truths, visit, before = [], -1, None
    for index in range(len(faces_at_s)):
        span = next((s for s in spans if s[0] <= index <= s[1]), None)
        if index == 0 or span != before:
            visit, before = visit + 1, span
        presence = Presence.UNKNOWN if span else Presence.NOBODY
        truths.append(Truth(visit, presence, None, "as it was", None))
    return truths


def unlocked_spans(moments: Sequence[Moment]) -> list[tuple[float, float]]:
    """Stretches, in seconds, in which the door stood unlocked."""
    spans: list[tuple[float, float]] = []
    start: float | None = None
    for moment in moments:
        if not moment.locked and start is None:
            start = moment.at_s
        elif moment.locked and start is not None:
            spans.append((start, moment.at_s))
            start = None
    if start is not None:
        spans.append((start, moments[-1].at_s))
    return spans


def _summary(number: int, moments: list[Moment]) -> VisitSummary:
    acquired = [moment for moment in moments if moment.acquired]
    openings = [moment for moment in moments if moment.verdict is Verdict.OPEN]
    scores = [moment.score for moment in acquired if moment.score is not None]
    opened_after = openings[0].at_s - acquired[0].at_s if openings and acquired else None
    return VisitSummary(
        number=number,
        presence=moments[0].truth.presence,
        name=moments[0].truth.name,
        from_s=moments[0].at_s,
        until_s=moments[-1].at_s,
        frames=len(moments),
        acquired=len(acquired),
        matches=sum(moment.outcome is Outcome.MATCH for moment in moments),
        best_score=max(scores, default=None),
        conditions=tuple(dict.fromkeys(moment.truth.conditions for moment in moments)),
        opened=bool(openings),
        refused=not openings and any(m.verdict is Verdict.REFUSE for m in moments),
        opened_after_s=opened_after,
        key=_key_moments(moments, acquired),
    )


def _key_moments(moments: list[Moment], acquired: list[Moment]) -> tuple[Moment, ...]:
    """The one that decided, and others spread evenly; a single one where nobody came."""
    if not acquired:
        return (moments[len(moments) // 2],)
    places = np.linspace(0, len(acquired) - 1, KEY_MOMENTS).round().astype(int)
    chosen = [acquired[place] for place in dict.fromkeys(places.tolist())]
    decisive = next(
        (m for verdict in (Verdict.OPEN, Verdict.REFUSE) for m in moments if m.verdict is verdict),
        None,
    )
    if decisive is not None and decisive.sequence not in {moment.sequence for moment in chosen}:
        distances = [abs(moment.sequence - decisive.sequence) for moment in chosen]
        chosen[distances.index(min(distances))] = decisive
    return tuple(sorted(chosen, key=lambda moment: moment.sequence))
