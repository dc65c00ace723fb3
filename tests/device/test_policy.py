"""Rights, limits, second factors: what stands between a recognised face and an open door."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from limen.device.admission import AdmissionPolicy, Admitter
from limen.device.gatekeeper import Demand, Gatekeeper
from limen.device.limits import LimitPolicy
from limen.device.second_factor import SecondFactors
from limen.device.trusted_clock import ClockTrust, TrustedClock, kernel_is_synchronised
from limen.device.values import Candidate, Decision, Outcome, Verdict
from limen.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=BERLIN)
ONE_VOTE = AdmissionPolicy(votes=1, window=1, cool_down_s=0.0)
ANN, BOB = bytes(15) + b"a", bytes(15) + b"b"


def anybody(_subject_id: str) -> bool:
    """Everybody may enter."""
    return True


def match(
    at_s: float,
    who: str = "ann",
    *,
    score: float = 0.9,
    other: float = 0.1,
    track: int | None = None,
    lookalike: bool = False,
) -> Decision:
    return Decision(
        Outcome.MATCH,
        Candidate(who, score),
        0.5,
        0,
        at_s,
        faces=1,
        track=track,
        runner_up=Candidate("zoe", other),
        lookalike=lookalike,
    )


def stranger(at_s: float, track: int | None = None) -> Decision:
    return Decision(Outcome.NO_MATCH, Candidate("ann", 0.1), 0.5, 0, at_s, faces=1, track=track)


def test_clock_that_jumps_back_a_year_is_not_trusted_until_it_is_set_anew() -> None:
    now, elapsed, synchronised = [MONDAY], [100.0], [True]
    clock = TrustedClock(
        wall=lambda: now[0], elapsed=lambda: elapsed[0], synchronised=lambda: synchronised[0]
    )
    assert clock().trusted
    now[0] -= timedelta(days=365)
    elapsed[0] += 1.0
    assert not clock().trusted
    elapsed[0] += 60.0
    now[0] += timedelta(seconds=60)
    assert not clock().trusted  # whoever vouched for it may only not have noticed
    synchronised[0] = False
    assert not clock().trusted
    synchronised[0] = True
    now[0] = MONDAY + timedelta(seconds=61)
    assert clock().trusted
    now[0] -= timedelta(days=1)
    assert not clock().trusted
    elapsed[0] += 600.0
    now[0] += timedelta(seconds=600)
    assert clock().trusted


def test_board_without_a_clock_is_trusted_from_its_first_synchronisation() -> None:
    now, synchronised = [datetime(2024, 1, 1, tzinfo=UTC)], [False]
    clock = TrustedClock(
        wall=lambda: now[0],
        elapsed=lambda: 5.0,
        synchronised=lambda: synchronised[0],
        rtc=lambda: True,
    )
    assert not clock().trusted
    synchronised[0], now[0] = True, MONDAY
    assert clock().trusted


@pytest.mark.parametrize(
    ("trust", "year", "trusted"),
    [("sync", 2026, False), ("rtc", 2026, True), ("always", 2026, True), ("always", 1970, False)],
)
def test_what_vouches_for_the_clock(trust: str, year: int, trusted: bool) -> None:
    clock = TrustedClock(
        ClockTrust(trust),
        wall=lambda: MONDAY.replace(year=year),
        elapsed=lambda: 0.0,
        synchronised=lambda: False,
        rtc=lambda: True,
    )
    assert clock().trusted is trusted


def test_kernel_can_be_asked() -> None:
    assert kernel_is_synchronised() in {True, False}


def test_repeated_refusals_lock_out_everybody_for_a_while() -> None:
    limits = LimitPolicy(lockout_after=2, lockout_window_s=100.0, lockout_s=60.0)
    keeper = Gatekeeper(Admitter(ONE_VOTE), limits=limits)
    assert keeper.consider(stranger(0.0)).verdict is Verdict.REFUSE
    assert keeper.consider(stranger(10.0)).verdict is Verdict.REFUSE
    assert keeper.consider(match(11.0)).reason == "locked out"
    assert keeper.consider(match(69.9)).reason == "locked out"
    assert keeper.consider(match(70.0)).verdict is Verdict.OPEN


def test_refusals_that_lie_apart_or_before_an_opening_lock_out_nobody() -> None:
    limits = LimitPolicy(lockout_after=2, lockout_window_s=100.0)
    keeper = Gatekeeper(Admitter(ONE_VOTE), limits=limits)
    keeper.consider(stranger(0.0))
    keeper.consider(stranger(101.0))
    assert keeper.consider(match(102.0)).verdict is Verdict.OPEN
    keeper.consider(stranger(110.0))
    assert keeper.consider(match(111.0)).verdict is Verdict.OPEN


def test_clock_that_goes_back_does_not_lengthen_a_lock_out() -> None:
    limits = LimitPolicy(lockout_after=1, lockout_s=60.0)
    keeper = Gatekeeper(Admitter(ONE_VOTE), limits=limits)
    keeper.consider(stranger(1000.0))
    assert keeper.consider(match(5.0)).reason == "locked out"
    assert keeper.consider(match(65.1)).reason != "locked out"


def test_budget_of_openings_is_kept() -> None:
    keeper = Gatekeeper(Admitter(ONE_VOTE), limits=LimitPolicy(budget=2, budget_s=100.0))
    assert [keeper.consider(match(at)).verdict for at in (0.0, 1.0)] == [Verdict.OPEN] * 2
    assert "budget" in keeper.consider(match(2.0)).reason
    assert keeper.consider(match(100.5)).verdict is Verdict.OPEN


def factor_keeper(demand: Demand, **values: float) -> Gatekeeper:
    policy = AdmissionPolicy(
        votes=1, window=1, cool_down_s=1.0, contested_votes=True, margin=values.get("margin", 0.0)
    )
    return Gatekeeper(
        Admitter(policy),
        limits=LimitPolicy(lockout_after=2),
        demand=demand,
        check_factor=lambda subject, entry: (subject, entry) == ("ann", "1357"),
        patience_s=10.0,
    )


def test_second_factor_opens_for_the_recognised_subject_only() -> None:
    keeper = factor_keeper(Demand.ALWAYS)
    asked = keeper.consider(match(0.0))
    assert (asked.verdict, asked.subject_id) == (Verdict.ASK, "ann")
    assert keeper.consider(match(1.0)).reason == "second factor awaited"
    opened = keeper.present("1357", 2.0, anybody)
    assert (opened.verdict, opened.subject_id) == (Verdict.OPEN, "ann")
    assert keeper.consider(match(2.5)).reason == "cool-down"
    keeper.consider(match(4.0, "zoe"))
    assert keeper.present("1357", 4.5, anybody).reason == "second factor is wrong"


def test_right_that_ends_while_somebody_types_opens_nothing() -> None:
    keeper = factor_keeper(Demand.ALWAYS)
    assert keeper.consider(match(0.0)).verdict is Verdict.ASK
    late = keeper.present("1357", 2.0, lambda subject_id: subject_id != "ann")
    assert (late.verdict, late.reason) == (Verdict.REFUSE, "no right to enter any more")
    assert keeper.present("1357", 3.0, anybody).verdict is Verdict.WAIT


def test_second_factor_that_is_late_wrong_or_unasked_opens_nothing() -> None:
    keeper = factor_keeper(Demand.ALWAYS)
    assert keeper.present("1357", 0.0, anybody).verdict is Verdict.WAIT
    keeper.consider(match(1.0))
    assert keeper.consider(match(11.0)).reason == "second factor not given"
    keeper.consider(match(20.0))
    assert keeper.present("1357", 30.0, anybody).verdict is Verdict.REFUSE
    assert keeper.consider(match(31.0)).reason == "locked out"


def test_time_that_is_no_number_ends_the_question() -> None:
    keeper = factor_keeper(Demand.ALWAYS)
    keeper.consider(match(1.0))
    assert keeper.consider(match(float("nan"))).verdict is Verdict.REFUSE
    assert keeper.present("1357", 2.0, anybody).verdict is Verdict.WAIT


def test_lookalikes_and_close_calls_are_asked_others_are_not() -> None:
    keeper = factor_keeper(Demand.CONTESTED, margin=0.2)
    assert keeper.consider(match(0.0)).verdict is Verdict.OPEN
    assert keeper.consider(match(2.0, lookalike=True)).verdict is Verdict.ASK
    keeper.clear()
    assert keeper.consider(match(4.0, other=0.75)).verdict is Verdict.ASK
    keeper.clear()
    assert not keeper.is_asking


def test_close_call_is_no_vote_where_no_factor_can_settle_it() -> None:
    admitter = Admitter(AdmissionPolicy(votes=1, window=2, margin=0.2))
    assert admitter.consider(match(0.0, other=0.75)).reason == "too close to another subject"
    assert admitter.consider(match(0.1, other=0.70)).verdict is Verdict.OPEN


def test_votes_of_two_tracks_are_not_added_up() -> None:
    admitter = Admitter(AdmissionPolicy(votes=2, window=3))
    assert admitter.consider(match(0.0, track=1)).verdict is Verdict.WAIT
    assert admitter.consider(match(0.1, track=2)).verdict is Verdict.WAIT
    assert admitter.consider(match(0.2, track=1)).verdict is Verdict.OPEN


def test_admitted_visitor_must_leave_before_the_door_opens_for_them_again() -> None:
    policy = AdmissionPolicy(votes=1, window=1, cool_down_s=1.0, rearm_s=2.0)
    admitter = Admitter(policy)
    assert admitter.consider(match(0.0, track=1)).verdict is Verdict.OPEN
    for tenth in range(20, 60):
        assert admitter.consider(match(0.1 * tenth, track=1)).reason == "not re-armed"
    # Nor by a new track, nor does another visitor have to wait for them.
    assert admitter.consider(match(6.5, track=2)).reason == "not re-armed"
    assert admitter.consider(match(6.6, "zoe", track=3)).verdict is Verdict.OPEN
    assert admitter.consider(match(9.0, track=4)).verdict is Verdict.OPEN


def test_policy_that_changes_while_the_door_runs_keeps_votes_and_counts() -> None:
    keeper = Gatekeeper(Admitter(AdmissionPolicy(votes=3, window=5)))
    keeper.consider(match(0.0))
    keeper.reconfigure(
        AdmissionPolicy(votes=2, window=4),
        limits=LimitPolicy(),
        demand=Demand.NEVER,
        patience_s=5.0,
    )
    assert keeper.consider(match(0.1)).verdict is Verdict.OPEN
    with pytest.raises(ConfigError, match="nothing checks"):
        keeper.reconfigure(
            AdmissionPolicy(),
            limits=LimitPolicy(),
            demand=Demand.ALWAYS,
            patience_s=5.0,
        )


def test_second_factors_are_kept_hashed_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "factors.json"
    factors = SecondFactors(path)
    factors.add(ANN, "pin", "1357")
    factors.add(ANN, "card", "04:A2:19:FF")
    factors.add(ANN, "pin", "2468")  # replaces the first
    text = path.read_text()
    assert "1357" not in text
    assert "04:A2" not in text
    assert path.stat().st_mode & 0o777 == 0o600
    again = SecondFactors(path)
    assert again.subjects() == {ANN: ["card", "pin"]}
    assert again.check(ANN, "2468\n")
    assert again.check(ANN, "04:A2:19:FF")
    for subject, entry in ((ANN, "1357"), (BOB, "2468"), (ANN, "")):
        assert not again.check(subject, entry)
    assert again.remove(ANN)
    assert not again.remove(ANN)
    assert not SecondFactors(path).check(ANN, "2468")


@pytest.mark.parametrize("pin", ["123", "1234", "9876", "7777", "12a4", "", "1" * 13, "8901"])
def test_weak_pin_is_refused(tmp_path: Path, pin: str) -> None:
    with pytest.raises(ConfigError, match="PIN"):
        SecondFactors(tmp_path / "f.json").add(ANN, "pin", pin)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2}', '{"version": 1, "subjects": {ANN: [{"kind": "pin"}]}}'],
)
def test_damaged_file_of_second_factors_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"f\.json"):
        SecondFactors(path)
    path.write_text(json.dumps({"version": 2, "subjects": {}}))
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        SecondFactors(path)
