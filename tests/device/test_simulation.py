"""A door's day played through a policy again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, time
from pathlib import Path

import numpy as np
import pytest

from limen.device.admission import AdmissionPolicy, Admitter
from limen.device.events import Event, EventKind, JsonLines
from limen.device.gatekeeper import Demand, Gatekeeper
from limen.device.simulation import (
    Happening,
    LoggedDecision,
    ReplayClock,
    at_threshold,
    by_rights_of,
    read_score_log,
    replay,
)
from limen.device.subjects import DAYS, OpenHours, References, SubjectDetails
from limen.device.values import Candidate, Decision, Outcome
from limen.errors import ConfigError

AT = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)


def decisions(*scores: float | None) -> list[Decision]:
    """Ann's scores at threshold 0.5, five a second; None is a frame without a face."""
    found = []
    for number, score in enumerate(scores):
        if score is None:
            found.append(Decision(Outcome.FAILURE_TO_ACQUIRE, None, 0.5, number, 0.2 * number))
            continue
        outcome = Outcome.MATCH if score >= 0.5 else Outcome.NO_MATCH
        found.append(
            Decision(
                outcome,
                Candidate("ann", score),
                0.5,
                number,
                0.2 * number,
                0.8,
                None,
                1,
                1,
                Candidate("bob", 0.1),
            )
        )
    return found


def written(path: Path, found: list[Decision], *, with_scores: bool = True) -> Path:
    with path.open("w") as stream:
        lines = JsonLines(
            stream,
            clock=lambda: AT,
            with_decisions=True,
            with_subjects=True,
            with_scores=with_scores,
        )
        lines.emit(Event(EventKind.STARTED))
        for decision in found:
            lines.emit(Event(EventKind.DECISION, "no match", decision, votes=0))
        lines.emit(Event(EventKind.DECISION, "a better shot is awaited", found[-1], votes=0))
    return path


def play(
    logged: Iterator[LoggedDecision],
    policy: AdmissionPolicy | None = None,
    *,
    answers: bool = True,
    demand: Demand = Demand.NEVER,
) -> list[Happening]:
    keeper = Gatekeeper(
        Admitter(policy or AdmissionPolicy()),
        demand=demand,
        check_factor=lambda *_: True,
    )
    return list(replay(logged, keeper, answers=answers))


def test_log_that_a_door_wrote_opens_what_the_door_opened(tmp_path: Path) -> None:
    found = decisions(None, 0.8, 0.3, 0.7, 0.9)
    log = written(tmp_path / "a.jsonl", found)
    logged = list(read_score_log(log))
    assert {each.decision.track for each in logged if each.decision.candidate} == {1}
    assert len(logged) == len(found)  # frames that no vote was counted for are none
    assert play(iter(logged)) == [
        Happening("2026-11-02T08:00:00.000Z", "opened", "votes reached", "ann", 3)
    ]
    strict = AdmissionPolicy(votes=4, window=4)
    assert [h.what for h in play(iter(logged), strict)] == ["refused"]


def test_higher_threshold_can_be_tried_and_a_lower_one_not(tmp_path: Path) -> None:
    log = written(tmp_path / "a.jsonl", decisions(0.8, 0.7, 0.9, 0.95, 0.8))
    assert play(at_threshold(read_score_log(log), 0.75))[0].votes == 3
    assert play(at_threshold(read_score_log(log), 0.85))[0].what == "refused"
    with pytest.raises(ConfigError, match="limen record"):
        play(at_threshold(read_score_log(log), 0.4))


def test_question_that_nobody_answers_can_be_tried(tmp_path: Path) -> None:
    log = written(tmp_path / "a.jsonl", decisions(0.8, 0.8, 0.8))
    asked = play(read_score_log(log), demand=Demand.ALWAYS, answers=False)
    assert [h.what for h in asked] == ["asked"]
    opened = play(read_score_log(log), demand=Demand.ALWAYS)
    assert [h.what for h in opened] == ["asked", "opened"]


def test_log_is_judged_by_the_rights_of_a_gallery_and_a_power_cut_can_be_tried(
    tmp_path: Path,
) -> None:
    log = written(tmp_path / "a.jsonl", decisions(0.8, 0.8, 0.8, 0.8, 0.8))
    always = OpenHours(days=DAYS, begins=time(0), ends=time(0))
    cases = [
        (SubjectDetails(), True, "opened"),
        (SubjectDetails(schedule=(always,)), True, "opened"),
        (SubjectDetails(schedule=(always,)), False, "refused"),
        (SubjectDetails(), False, "opened"),
        (SubjectDetails(may_enter=False), True, "refused"),
        (SubjectDetails(expires_at=AT), True, "refused"),
    ]
    for details, trusted, happened in cases:
        logged = by_rights_of(read_score_log(log), gallery_of("ann", details), ReplayClock(trusted))
        assert [h.what for h in play(logged)] == [happened]
    gone = by_rights_of(read_score_log(log), gallery_of("bob", SubjectDetails()), ReplayClock())
    assert [h.what for h in play(gone)] == ["refused"]


def gallery_of(name: str, details: SubjectDetails) -> References:
    return References(
        (name,), np.zeros(1, np.int64), np.eye(1, 8, dtype=np.float32), details=(details,)
    )


def test_log_without_scores_says_how_to_write_one(tmp_path: Path) -> None:
    log = written(tmp_path / "a.jsonl", decisions(0.8), with_scores=False)
    with pytest.raises(ConfigError, match="--decisions --scores --subjects"):
        list(read_score_log(log))


def test_line_that_was_cut_ends_the_log_and_one_in_the_middle_is_an_error(
    tmp_path: Path,
) -> None:
    log = written(tmp_path / "a.jsonl", decisions(0.8, 0.8, 0.8))
    text = log.read_text()
    log.write_text(text + '{"event":"deci')
    assert len(list(read_score_log(log))) == 3
    log.write_text('{"event":"deci\n' + text)
    with pytest.raises(ConfigError, match="line 1 is damaged"):
        list(read_score_log(log))
    told = json.loads(text.splitlines()[1])
    log.write_text(json.dumps({**told, "score": "NaN"}) + "\n")
    with pytest.raises(ConfigError, match="line 1 is no decision"):
        list(read_score_log(log))
