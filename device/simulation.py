"""What a policy would have done: a recorded session or a log of scores, played through it again.

Pure but for reading the log. The regression test of a door: change the policy, play the same day.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from limen.device.door import BETTER_SHOT
from limen.device.gatekeeper import Gatekeeper
from limen.device.permission import Permission
from limen.device.subjects import References
from limen.device.trusted_clock import WallTime
from limen.device.values import Admission, Candidate, Decision, Outcome, Verdict
from limen.errors import ConfigError

MAX_LOG_BYTES = 1 << 30
SOMEBODY = "somebody"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that a policy did. at: UTC, ISO 8601; subject_id: whom it opened for or asked."""

    at: str
    what: str
    reason: str
    subject_id: str | None
    votes: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """A line of a score log: the decision, and when it was taken, UTC."""

    at: datetime
    decision: Decision


class ReplayClock:
    """The wall clock of a replay: the log's, which is trusted unless it is said not to be."""

    def __init__(self, trusted: bool = True) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.trusted = trusted

    def __call__(self) -> WallTime:
        return WallTime(self.now, self.trusted)


def replay(
    logged: Iterator[LoggedDecision],
    gatekeeper: Gatekeeper,
    *,
    answers: bool = True,
) -> Iterator[Happening]:
    """Play decisions through a gatekeeper.

    answers: whether a second factor that is asked for is given, at once and rightly.
    """
    for each in logged:
        admission = gatekeeper.consider(each.decision)
        yield from happened(each.at, admission)
        if admission.verdict is Verdict.ASK and answers:
            answer = gatekeeper.present("", each.decision.captured_at_s, lambda _: True)
            yield from happened(each.at, answer)


def happened(at: datetime, admission: Admission) -> Iterator[Happening]:
    """What an admission comes to; nothing where the door waits."""
    words = {Verdict.OPEN: "opened", Verdict.ASK: "asked", Verdict.REFUSE: "refused"}
    if admission.verdict in words:
        yield Happening(
            at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            words[admission.verdict],
            admission.reason,
            admission.subject_id,
            admission.votes,
        )


def at_threshold(logged: Iterator[LoggedDecision], threshold: float) -> Iterator[LoggedDecision]:
    """The same decisions at a higher threshold. ConfigError for a lower one than was logged.

    A log does not say whom a stranger resembled, so no stranger can become a match.
    """
    for each in logged:
        decision = each.decision
        if threshold < decision.threshold:
            raise ConfigError(
                f"the log was written at threshold {decision.threshold:.4f} and cannot be replayed "
                f"at {threshold:.4f}: record a session with 'limen record' and replay that"
            )
        outcome = decision.outcome
        if outcome is Outcome.MATCH and decision.candidate is not None:
            outcome = Outcome.MATCH if decision.candidate.score >= threshold else Outcome.NO_MATCH
        yield replace(each, decision=replace(decision, outcome=outcome, threshold=threshold))


def by_rights_of(
    logged: Iterator[LoggedDecision], references: References, clock: ReplayClock
) -> Iterator[LoggedDecision]:
    """The same decisions under the rights, hours and expiries of a gallery as it is now.

    A match of somebody who may not enter at that time is of a stranger, as at the door; so is one
    of whoever is no longer enrolled. Who was kept out when the log was written stays out.
    """
    permission = Permission(references, clock)
    rows = {name: row for row, name in enumerate(references.subject_ids)}
    for each in logged:
        decision, clock.now = each.decision, each.at
        candidate = decision.candidate
        if decision.outcome is Outcome.MATCH and candidate is not None:
            row, among = rows.get(candidate.subject_id), permission.now()
            if row is None or (among is not None and not among[row]):
                stranger = replace(candidate, subject_id=SOMEBODY)
                decision = replace(decision, outcome=Outcome.NO_MATCH, candidate=stranger)
        yield replace(each, decision=decision)


def read_score_log(path: Path) -> Iterator[LoggedDecision]:
    """The decisions in the events of `limen run --decisions --scores --subjects`, in their order.

    Other events are passed over. ConfigError with the line's number where one is damaged, unless it
    is the last one, which a pulled plug may have cut; or where the log lacks scores or subjects.
    """
    try:
        if path.stat().st_size > MAX_LOG_BYTES:
            raise ConfigError(f"{path}: larger than 1 GiB: split it by days")
        with path.open(encoding="utf-8") as lines:
            damaged = 0
            for number, line in enumerate(lines, 1):
                if damaged:
                    raise ConfigError(f"{path}: line {damaged} is damaged: remove it")
                try:
                    told = json.loads(line)
                    event = told["event"]
                except (ValueError, KeyError, TypeError, RecursionError):
                    damaged = number
                    continue
                if event == "decision" and told.get("reason") != BETTER_SHOT:
                    yield _logged(path, number, told)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a log of events: check the path") from error


def _logged(path: Path, number: int, told: dict[str, Any]) -> LoggedDecision:
    try:
        outcome = Outcome(told["outcome"])
        candidate = runner_up = None
        if "score" in told:
            name = told["subject_id"] if outcome is Outcome.MATCH else SOMEBODY
            candidate = Candidate(str(name), _finite(told["score"]))
        if "runner_up_score" in told:
            runner_up = Candidate(SOMEBODY, _finite(told["runner_up_score"]))
        if outcome is Outcome.MATCH and candidate is None:
            raise KeyError("score")
        return LoggedDecision(
            datetime.fromisoformat(told["at"]),
            Decision(
                outcome=outcome,
                candidate=candidate,
                threshold=_finite(told["threshold"]),
                sequence=int(told["frame"]),
                captured_at_s=_finite(told["captured_at_s"]),
                quality=_finite(told["quality"]),
                faces=int(told["faces"]),
                track=int(told["track"]) if "track" in told else None,
                runner_up=runner_up,
                lookalike=bool(told.get("lookalike", False)),
            ),
        )
    except KeyError as error:
        raise ConfigError(
            f"{path}: line {number} has no {error.args[0]}: write the log with "
            "'limen run --decisions --scores --subjects'"
        ) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: line {number} is no decision: remove it") from error


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number
