"""Admission: when a row of decisions opens the door, refuses somebody, or waits for more.

Pure. Time is that of the frames, so that a recorded hour is judged as it was lived.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field

from limen.device.values import Admission, Decision, Outcome, Verdict
from limen.errors import ConfigError


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """How many votes open the door.

    votes: matches of one subject on one track that are needed, among its last `window` decisions
    and within `window_s` seconds; margin: a match counts only where the best score is so far above
    the next subject's; with contested_votes one that is nearer counts too, and says so, for a
    second factor to settle. cool_down_s: after opening, nothing counts for so long; rearm_s: whom
    the door opened for is not admitted again before they were out of view for so long, 0 for off.
    one_face: a frame with more than one face takes back all votes, so that nobody enters in
    another's company. ConfigError for values that could never open, or would open on nothing.
    """

    votes: int = 3
    window: int = 5
    window_s: float = 2.0
    cool_down_s: float = 5.0
    one_face: bool = False
    margin: float = 0.0
    contested_votes: bool = False
    rearm_s: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.votes <= self.window:
            raise ConfigError(
                f"votes: expected 1 to window ({self.window}), found {self.votes}: "
                "ask for fewer votes, or a longer window"
            )
        if not (self.window_s > 0 and math.isfinite(self.window_s)):
            raise ConfigError(f"window_s: expected more than 0 seconds, found {self.window_s}")
        for name in ("cool_down_s", "rearm_s"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{name}: expected 0 seconds or more, found {value}")
        if not 0 <= self.margin <= 2:
            raise ConfigError(
                f"margin: expected 0 to 2, a difference of cosines, found {self.margin}"
            )


@dataclass(frozen=True, slots=True)
class _Ballot:
    """One decision in the window: whom it votes for, if anybody."""

    at_s: float
    subject_id: str | None
    contested: bool = False


@dataclass(slots=True)
class _Visitor:
    """What is known of one track. The track None is everybody whom nothing follows."""

    ballots: deque[_Ballot]
    last_face_s: float | None = None
    faces: int = 0
    refused: bool = False

    def leave(self) -> None:
        self.faces, self.refused, self.last_face_s = 0, False, None

    def votes(self) -> Counter[str]:
        return Counter(b.subject_id for b in self.ballots if b.subject_id is not None)


@dataclass(slots=True)
class _Admitted:
    """Somebody whom the door opened for and who may still stand there."""

    track: int | None
    last_seen_s: float


@dataclass(slots=True)
class _State:
    visitors: dict[int | None, _Visitor] = field(default_factory=dict)
    admitted: dict[str, _Admitted] = field(default_factory=dict)


class Admitter:
    """Counts votes.

    It opens when a decision completes the votes of its own subject on its own track. It refuses
    once when `window` decisions with a face have passed on a track without opening: the votes then
    start anew, and the same visitor is not refused again until no face of that track was seen for
    `window_s`, or the door opened.
    """

    def __init__(self, policy: AdmissionPolicy) -> None:
        self._policy = policy
        self._state = _State()
        self._last_s: float | None = None
        self._cool_until_s: float | None = None

    @property
    def policy(self) -> AdmissionPolicy:
        """The policy in force."""
        return self._policy

    def clear(self) -> None:
        """Take back all votes, as when the gallery changed; a cool-down goes on."""
        for visitor in self._state.visitors.values():
            visitor.ballots.clear()

    def reconfigure(self, policy: AdmissionPolicy) -> None:
        """Go on under another policy; votes that fit into its window stay."""
        self._policy = policy
        for visitor in self._state.visitors.values():
            visitor.ballots = deque(visitor.ballots, maxlen=policy.window)

    def cool_down(self, now_s: float) -> None:
        """The door opened for a reason besides the votes: nothing counts for `cool_down_s`."""
        self.clear()
        self._cool_until_s = now_s + self._policy.cool_down_s

    def deny(self) -> None:
        """The opening that was just decided did not take place: no cool-down."""
        self._cool_until_s = None

    def consider(self, decision: Decision) -> Admission:
        """Count one decision, in the order in which the frames were captured.

        Where the clock went back, or is no number, all votes are taken back, this one is not
        counted, and a cool-down starts over.
        """
        now_s = decision.captured_at_s
        if not math.isfinite(now_s) or (self._last_s is not None and now_s < self._last_s):
            return self._clock_went_back(now_s)
        self._last_s = now_s
        rearming = self._is_rearming(decision, now_s)
        if self._cool_until_s is not None:
            if now_s < self._cool_until_s:
                return self._wait("cool-down")
            self._cool_until_s = None
        self._forget_the_gone(now_s)
        if rearming:
            return self._wait("not re-armed")

        has_face = decision.outcome is not Outcome.FAILURE_TO_ACQUIRE
        crowded = self._policy.one_face and decision.faces > 1
        if crowded:
            self.clear()
        visitor = self._state.visitors.get(decision.track)
        if visitor is None:
            visitor = _Visitor(deque(maxlen=self._policy.window))
            self._state.visitors[decision.track] = visitor
        ballot = _Ballot(now_s, None) if crowded else self._ballot(decision, now_s)
        visitor.ballots.append(ballot)
        if has_face:
            visitor.faces += 1
            visitor.last_face_s = now_s

        subject_id = ballot.subject_id
        votes = visitor.votes().get(subject_id, 0) if subject_id is not None else 0
        if subject_id is not None and votes >= self._policy.votes:
            return self._open(visitor, subject_id, votes, decision)
        if visitor.faces >= self._policy.window and not visitor.refused:
            return self._refuse(visitor)
        if crowded:
            return self._wait("more than one face")
        if not has_face:
            return self._wait("no face" if decision.faces == 0 else "poor face")
        if subject_id is not None:
            return self._wait("more votes needed")
        matched = decision.outcome is Outcome.MATCH
        return self._wait("too close to another subject" if matched else "no match")

    def _ballot(self, decision: Decision, now_s: float) -> _Ballot:
        if decision.outcome is not Outcome.MATCH or decision.candidate is None:
            return _Ballot(now_s, None)
        other = decision.runner_up
        close = other is not None and decision.candidate.score - other.score < self._policy.margin
        if close and not self._policy.contested_votes:
            return _Ballot(now_s, None)
        return _Ballot(now_s, decision.candidate.subject_id, close or decision.lookalike)

    def _is_rearming(self, decision: Decision, now_s: float) -> bool:
        """Whether the decision is of somebody whom the door opened for and who never left."""
        matched = decision.candidate if decision.outcome is Outcome.MATCH else None
        found = False
        for subject_id, admitted in list(self._state.admitted.items()):
            same_track = decision.track is not None and decision.track == admitted.track
            if same_track or (matched is not None and matched.subject_id == subject_id):
                if now_s - admitted.last_seen_s <= self._policy.rearm_s:
                    admitted.last_seen_s = now_s
                    found = True
                    continue
            elif now_s - admitted.last_seen_s <= self._policy.rearm_s:
                continue
            del self._state.admitted[subject_id]
        return found

    def _forget_the_gone(self, now_s: float) -> None:
        for track, visitor in list(self._state.visitors.items()):
            if visitor.last_face_s is not None and (
                now_s - visitor.last_face_s > self._policy.window_s
            ):
                visitor.leave()
            while visitor.ballots and now_s - visitor.ballots[0].at_s > self._policy.window_s:
                visitor.ballots.popleft()
            if not visitor.ballots and visitor.last_face_s is None:
                del self._state.visitors[track]

    def _open(
        self, visitor: _Visitor, subject_id: str, votes: int, decision: Decision
    ) -> Admission:
        contested = any(b.contested for b in visitor.ballots if b.subject_id == subject_id)
        for each in self._state.visitors.values():
            each.leave()
            each.ballots.clear()
        now_s = decision.captured_at_s
        self._cool_until_s = now_s + self._policy.cool_down_s
        if self._policy.rearm_s > 0:
            self._state.admitted[subject_id] = _Admitted(decision.track, now_s)
        return Admission(Verdict.OPEN, subject_id, votes, "votes reached", contested)

    def _refuse(self, visitor: _Visitor) -> Admission:
        votes = max(visitor.votes().values(), default=0)
        visitor.refused = True
        visitor.faces = 0
        visitor.ballots.clear()
        return Admission(Verdict.REFUSE, None, votes, "votes not reached")

    def _wait(self, reason: str) -> Admission:
        most = max(
            (max(v.votes().values(), default=0) for v in self._state.visitors.values()), default=0
        )
        return Admission(Verdict.WAIT, None, most, reason)

    def _clock_went_back(self, now_s: float) -> Admission:
        for visitor in self._state.visitors.values():
            visitor.ballots.clear()
            visitor.faces = 0
            if math.isfinite(now_s) and visitor.last_face_s is not None:
                visitor.last_face_s = now_s
        if math.isfinite(now_s):
            self._last_s = now_s
            for admitted in self._state.admitted.values():
                admitted.last_seen_s = now_s
            if self._cool_until_s is not None:
                self._cool_until_s = now_s + self._policy.cool_down_s
        return self._wait("clock went back")
