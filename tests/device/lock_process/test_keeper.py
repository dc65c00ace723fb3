from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.device.lock import MAX_PULSE_S, NoticeKind
from limen.device.lock_process.keeper import Inputs, LockKeeper
from limen.device.lock_process.settings import LEASE_S, LockSettings
from limen.device.lock_process.wire import Report, Request, WireError
from limen.errors import ConfigError

SETTINGS = LockSettings(pin=17, max_pulse_s=3.0, exit_pulse_s=2.0, held_open_s=4.0)


def test_pulse_needs_heartbeats() -> None:
    keeper = LockKeeper(SETTINGS)
    assert keeper.ask(10.0, 3.0, 10.0) == ""
    keeper.beat(10.5, 10.5)
    keeper.tick(11.0)
    assert keeper.released
    keeper.tick(10.5 + LEASE_S)
    assert not keeper.released
    keeper.beat(11.2, 11.2)  # late: the pulse is over
    assert not keeper.released
    assert [(n.kind, n.reason) for n in keeper.take_notices()] == [
        (NoticeKind.RELEASED, "recogniser"),
        (NoticeKind.LOCKED, "no heartbeat"),
    ]


@pytest.mark.parametrize("asked_at_s", [9.4, 10.1, -math.inf, math.nan])
def test_request_that_is_old_or_from_the_future_is_refused(asked_at_s: float) -> None:
    keeper = LockKeeper(SETTINGS)
    assert "0.5 s" in keeper.ask(10.0, 1.0, asked_at_s)
    assert not keeper.released


@pytest.mark.parametrize("pulse_s", [0.0, -1.0, 3.001, math.inf, math.nan])
def test_pulse_out_of_bounds_is_refused(pulse_s: float) -> None:
    assert "max_pulse_s" in LockKeeper(SETTINGS).ask(10.0, pulse_s, 10.0)


def test_heartbeat_that_waited_in_a_queue_holds_nothing() -> None:
    keeper = LockKeeper(SETTINGS)
    keeper.ask(10.0, 3.0, 10.0)
    keeper.beat(10.59, 10.0)
    keeper.tick(10.0 + LEASE_S)
    assert not keeper.released


def test_exit_outlasts_the_recogniser() -> None:
    keeper = LockKeeper(SETTINGS)
    for at_s, pressed in ((0.0, False), (0.1, False), (1.0, True), (1.1, True)):
        keeper.sense(at_s, Inputs(exit_pressed=pressed))
    assert keeper.released
    keeper.controller_left(1.2)
    assert keeper.released
    keeper.tick(3.1)
    assert not keeper.released


def test_switch_that_bounces_is_not_believed() -> None:
    keeper = LockKeeper(SETTINGS)
    keeper.sense(0.0, Inputs(exit_pressed=False))
    keeper.sense(0.1, Inputs(exit_pressed=False))
    for step in range(20):
        keeper.sense(1.0 + 0.01 * step, Inputs(exit_pressed=step % 2 == 0))
    assert not keeper.released


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "beat", "lock", "left", "tick"]),
            st.floats(0, 1.0),
            st.floats(0.01, 3.0),
        ),
        max_size=80,
    )
)
def test_no_sequence_of_requests_opens_for_longer_than_the_limit_or_without_a_lease(
    asked: list[tuple[str, float, float]],
) -> None:
    keeper, now_s, since_s, beat_s = LockKeeper(SETTINGS), 0.0, None, -math.inf
    for what, step_s, pulse_s in asked:
        now_s += step_s
        keeper.tick(now_s)
        if since_s is not None and keeper.released:
            assert now_s - since_s < SETTINGS.max_pulse_s + 1e-9
            assert now_s - beat_s < LEASE_S + 1e-9
        if not keeper.released:
            since_s = None
        if what == "open" and keeper.ask(now_s, pulse_s, now_s) == "":
            since_s = now_s if since_s is None else since_s
            beat_s = now_s
        elif what == "beat":
            keeper.beat(now_s, now_s)
            beat_s = now_s
        elif what == "lock":
            keeper.lock(now_s, "asked")
        elif what == "left":
            keeper.controller_left(now_s)
        assert keeper.due_s() > now_s or not keeper.released


@pytest.mark.parametrize(
    "values",
    [
        {"pin": 28},
        {"pin": True},
        {"pin": 17, "exit_pin": 17},
        {"pin": 17, "max_pulse_s": MAX_PULSE_S + 1},
        {"pin": 17, "exit_pulse_s": 0},
        {"pin": 17, "lease_s": 0.9},
        {"pin": 17, "held_open_s": math.nan},
    ],
)
def test_settings_out_of_bounds_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="lock"):
        LockSettings(**values)  # type: ignore[arg-type]


def test_settings_survive_the_command_line() -> None:
    assert LockSettings.from_json(SETTINGS.to_json()) == SETTINGS
    for text in ("", "[]", "{}", '{"pin": 1, "pun": 2}', '{"pin": 1, "active_high": 0}'):
        with pytest.raises(ConfigError):
            LockSettings.from_json(text)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"v":2,"kind":"beat","number":1}',
        b'{"v":1,"kind":"sing","number":1}',
        b'{"v":1,"kind":"open","number":1,"pulse_s":"3"}',
        b'{"v":1,"kind":"open","number":1,"pulse_s":NaN}',
        b"[" * 5000,
    ],
)
def test_packet_that_is_none_of_ours_is_refused(packet: bytes) -> None:
    with pytest.raises(WireError):
        Request.unpack(packet)
    with pytest.raises(WireError):
        Report.unpack(packet)


def test_packets_come_back_whole() -> None:
    request = Request("open", 7, 12.5, 3.0)
    assert Request.unpack(request.pack()) == request
    keeper = LockKeeper(SETTINGS)
    keeper.ask(1.0, 1.0, 1.0)
    report = Report(7, "", False, None, False, tuple(keeper.take_notices()))
    assert Report.unpack(report.pack()) == report


def test_opening_by_hand_needs_no_heartbeat_and_ends_by_itself() -> None:
    keeper = LockKeeper(SETTINGS)
    assert keeper.open_by_hand(10.0, 2.0, 10.0) == ""
    assert keeper.due_s() == 12.0
    keeper.tick(11.9)
    assert keeper.released
    keeper.tick(12.0)
    assert not keeper.released
    assert [(n.kind, n.reason) for n in keeper.take_notices()] == [
        (NoticeKind.RELEASED, "by hand"),
        (NoticeKind.LOCKED, "opening by hand over"),
    ]


def test_opening_by_hand_again_and_again_ends_at_the_hard_limit_and_rests() -> None:
    keeper = LockKeeper(SETTINGS)
    for at_s in (10.0, 11.0, 12.0, 12.9):
        assert keeper.open_by_hand(at_s, 3.0, at_s) == ""
    keeper.tick(13.0)
    assert not keeper.released
    assert "limit" in keeper.open_by_hand(13.5, 1.0, 13.5)
    assert "limit" in keeper.ask(13.5, 1.0, 13.5)
    assert keeper.open_by_hand(14.1, 1.0, 14.1) == ""


def test_recogniser_and_hand_in_turn_have_one_limit_together() -> None:
    keeper = LockKeeper(SETTINGS)
    assert keeper.ask(10.0, 2.0, 10.0) == ""
    for beat_s in (10.5, 11.0, 11.5):
        keeper.beat(beat_s, beat_s)
    assert keeper.open_by_hand(11.8, 3.0, 11.8) == ""
    keeper.tick(12.5)
    assert keeper.ask(12.5, 3.0, 12.5) == ""
    assert keeper.released
    keeper.tick(13.0)
    assert not keeper.released
    assert "limit" in keeper.ask(13.5, 1.0, 13.5)


@pytest.mark.parametrize("pulse_s", [0.0, -1.0, 3.1, math.inf, math.nan])
def test_opening_by_hand_has_the_locks_own_bounds(pulse_s: float) -> None:
    keeper = LockKeeper(SETTINGS)
    assert "at most 3 s" in keeper.open_by_hand(10.0, pulse_s, 10.0)
    assert "0.5 s" in keeper.open_by_hand(10.0, 1.0, 9.0)
    assert not keeper.released


def test_nobody_opens_by_hand_while_the_casing_is_open() -> None:
    keeper = LockKeeper(SETTINGS)
    keeper.sense(0.0, Inputs(tampered=False))
    keeper.sense(1.0, Inputs(tampered=False))
    assert keeper.open_by_hand(1.0, 3.0, 1.0) == ""
    keeper.sense(1.5, Inputs(tampered=True))
    keeper.sense(1.6, Inputs(tampered=True))
    assert not keeper.released
    assert [n.kind for n in keeper.take_notices()][-2:] == [NoticeKind.TAMPER, NoticeKind.LOCKED]
    assert "casing" in keeper.open_by_hand(2.0, 1.0, 2.0)


def test_a_recogniser_that_leaves_does_not_end_an_opening_by_hand() -> None:
    keeper = LockKeeper(SETTINGS)
    assert keeper.ask(10.0, 3.0, 10.0) == ""
    assert keeper.open_by_hand(10.0, 2.0, 10.0) == ""
    keeper.controller_left(10.5)
    assert keeper.released
    keeper.sense(10.5, Inputs(door_open=True))
    keeper.sense(10.6, Inputs(door_open=True))
    keeper.sense(11.0, Inputs(door_open=False))
    keeper.sense(11.1, Inputs(door_open=False))
    assert not keeper.released  # somebody went through
