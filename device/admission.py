"""Admission: when a row of decisions opens the door, refuses somebody, or waits for more.

Pure. Time is that of the frames, so that a recorded hour is judged as it was lived.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass

from limen.device.values import Admission, Decision, Outcome, Verdict
from limen.errors import ConfigError


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """How many votes open the door.

    votes: matches of one subject that are needed, among the last `window` decisions and within
    `window_s` seconds; cool_down_s: after opening, nothing counts for so long; one_face: a frame
    with more than one face takes back all votes, so that nobody enters in another's company.
    ConfigError for values that could never open, or would open on nothing.
    """

    votes: int = 3
    window: int = 5
    window_s: float = 2.0
    cool_down_s: float = 5.0
    one_face: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.votes <= self.window:
            raise ConfigError(
                f"votes: expected 1 to window ({self.window}), found {self.votes}: "
                "ask for fewer votes, or a longer window"
            )
        if not (self.window_s > 0 and math.isfinite(self.window_s)):
            raise ConfigError(f"window_s: expected more than 0 seconds, found {self.window_s}")
        if not (self.cool_down_s >= 0 and math.isfinite(self.cool_down_s)):
            raise ConfigError(f"cool_down_s: expected 0 seconds or more, found {self.cool_down_s}")


@dataclass(frozen=True, slots=True)
class _Ballot:
    """One decision in the window: whom it votes for, if anybody."""

    at_s: float
    subject_id: str | None


class Admitter:
    """Counts votes.

    It opens when a decision completes the votes of its own subject. It refuses once when `window`
    decisions with a face have passed without opening: the votes then start anew, and the same
    visitor is not refused again until no face was seen for `window_s`, or the door opened.
    """

    def __init__(self, policy: AdmissionPolicy) -> None:
        self._policy = policy
        self._ballots: deque[_Ballot] = deque(maxlen=policy.window)
        self._last_s: float | None = None
        self._last_face_s: float | None = None
        self._cool_until_s: float | None = None
        self._faces = 0
        self._refused = False

    @property
    def policy(self) -> AdmissionPolicy:
        """The policy in force."""
        return self._policy

    def clear(self) -> None:
        """Take back all votes, as when the gallery changed; a cool-down goes on."""
        self._ballots.clear()

    def consider(self, decision: Decision) -> Admission:
        """Count one decision, in the order in which the frames were captured.

        Where the clock went back, or is no number, all votes are taken back, this one is not
        counted, and a cool-down starts over.
        """
        now_s = decision.captured_at_s
        if not math.isfinite(now_s) or (self._last_s is not None and now_s < self._last_s):
            return self._clock_went_back(now_s)
        self._last_s = now_s
        if self._cool_until_s is not None:
            if now_s < self._cool_until_s:
                return self._wait("cool-down")
            self._cool_until_s = None
        if self._last_face_s is not None and now_s - self._last_face_s > self._policy.window_s:
            self._visitor_left()
        while self._ballots and now_s - self._ballots[0].at_s > self._policy.window_s:
            self._ballots.popleft()

        has_face = decision.outcome is not Outcome.FAILURE_TO_ACQUIRE
        crowded = self._policy.one_face and decision.faces > 1
        if crowded:
            self._ballots.clear()
        subject_id = None if crowded else _vote(decision)
        self._ballots.append(_Ballot(now_s, subject_id))
        if has_face:
            self._faces += 1
            self._last_face_s = now_s

        votes = self._votes().get(subject_id, 0) if subject_id is not None else 0
        if subject_id is not None and votes >= self._policy.votes:
            return self._open(subject_id, votes, now_s)
        if self._faces >= self._policy.window and not self._refused:
            return self._refuse()
        if crowded:
            return self._wait("more than one face")
        if not has_face:
            return self._wait("no face" if decision.faces == 0 else "poor face")
        return self._wait("no match" if subject_id is None else "more votes needed")

    def _open(self, subject_id: str, votes: int, now_s: float) -> Admission:
        self._visitor_left()
        self._ballots.clear()
        self._cool_until_s = now_s + self._policy.cool_down_s
        return Admission(Verdict.OPEN, subject_id, votes, "votes reached")

    def _refuse(self) -> Admission:
        votes = self._most_votes()
        self._refused = True
        self._faces = 0
        self._ballots.clear()
        return Admission(Verdict.REFUSE, None, votes, "votes not reached")

    def _wait(self, reason: str) -> Admission:
        return Admission(Verdict.WAIT, None, self._most_votes(), reason)

    def _clock_went_back(self, now_s: float) -> Admission:
        self._ballots.clear()
        self._faces = 0
        if math.isfinite(now_s):
            self._last_s = now_s
            if self._last_face_s is not None:
                self._last_face_s = now_s
            if self._cool_until_s is not None:
                self._cool_until_s = now_s + self._policy.cool_down_s
        return self._wait("clock went back")

    def _visitor_left(self) -> None:
        self._faces = 0
        self._refused = False
        self._last_face_s = None

    def _votes(self) -> Counter[str]:
        return Counter(b.subject_id for b in self._ballots if b.subject_id is not None)

    def _most_votes(self) -> int:
        return max(self._votes().values(), default=0)


def _vote(decision: Decision) -> str | None:
    if decision.outcome is Outcome.MATCH and decision.candidate is not None:
        return decision.candidate.subject_id
    return None
