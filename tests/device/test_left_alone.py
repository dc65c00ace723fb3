"""A door that is left alone: bad days in the loop, and how it comes out of them, locked."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from limen.device.assembly import make_door, make_gatekeeper, reconfigure
from limen.device.camera_health import HealthMonitor
from limen.device.config import DoorConfig
from limen.device.door import Door, DoorStep
from limen.device.event_file import EventFile
from limen.device.events import Event, EventKind
from limen.device.fakes import (
    FAKE_MODEL_ID,
    FakeDetector,
    FakeEmbedder,
    RecordingSink,
    fake_embedding,
    fake_operating_point,
    fake_picture,
)
from limen.device.following import FaceRule
from limen.device.gallery import Gallery
from limen.device.gallery.records import subject_uid
from limen.device.gatekeeper import Gatekeeper
from limen.device.loading import load_recogniser
from limen.device.lock import LockNotice, NoticeKind, SimulatedLock
from limen.device.notify import ServiceManager
from limen.device.reconnecting import ReconnectingSource
from limen.device.runtime import run_door
from limen.device.second_factor import SecondFactors
from limen.device.sources import ArraySource
from limen.device.subjects import DAYS, SubjectDetails
from limen.device.trusted_clock import TrustedClock
from limen.device.values import Frame, Verdict
from limen.device.watch import Attendants, StopReason
from limen.errors import ConfigError, GalleryError, LockError, SourceError

RED, GREEN = (250, 10, 10), (10, 250, 10)
AT = "2026-11-01T12:00:00Z"
RNG = np.random.default_rng(3)


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "g.sqlite", model_id=FAKE_MODEL_ID, create=True) as gallery:
        gallery.enrol("ann", np.stack([fake_embedding(RED)]), [0.9], AT)
        gallery.keep_operating_point(fake_operating_point(0.9))
        yield gallery


def lived(*colours: tuple[int, int, int] | None, step_s: float = 0.2) -> list[Frame]:
    """Frames with a sensor's noise, which tells them from a frozen camera's."""
    frames = []
    for number, colour in enumerate(colours):
        image = fake_picture(colour) if colour else fake_picture()
        image[::8, ::8] += RNG.integers(0, 4, image[::8, ::8].shape, np.uint8)
        frames.append(Frame(image, step_s * number, number))
    return frames


class Frames(ArraySource):
    """Frames as they are; a function among them is called instead."""

    def __init__(self, *frames: Frame | Callable[[], object]) -> None:
        super().__init__([])
        self.frames = frames

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.frames:
            if isinstance(frame, Frame):
                yield frame
            else:
                frame()


def door_of(
    gallery: Gallery, config: DoorConfig | None = None, lock: SimulatedLock | None = None
) -> tuple[Door, Gatekeeper]:
    settings = config or DoorConfig()
    keeper = make_gatekeeper(settings, gallery)
    recogniser = load_recogniser(gallery, FAKE_MODEL_ID)
    door = make_door(
        settings, FakeDetector(), FakeEmbedder(), recogniser, keeper, lock or SimulatedLock()
    )
    return door, keeper


def test_door_that_follows_faces_opens_once_a_visit(gallery: Gallery) -> None:
    door, _ = door_of(gallery)
    sink, steps = RecordingSink(), list[DoorStep]()
    run_door(Frames(*lived(*[RED] * 60)), door, [sink], on_step=steps.append)
    assert sink.kinds().count("opened") == 1
    assert {step.decision.track for step in steps} == {1}
    again = RecordingSink()
    frames = lived(*[RED] * 5, *[None] * 40, *[RED] * 5)
    run_door(Frames(*frames), door_of(gallery)[0], [again])
    assert again.kinds().count("opened") == 2


def test_everybody_in_view_is_judged_under_the_rule_all(gallery: Gallery) -> None:
    small_and_near = fake_picture(GREEN, RED)
    for rule, opened in (("all", True), ("nearest", False), ("one", False)):
        door, _ = door_of(gallery, DoorConfig(faces=FaceRule(rule)))
        sink = RecordingSink()
        frames = [Frame(small_and_near, 0.2 * i, i) for i in range(5)]
        run_door(Frames(*frames), door, [sink])
        assert ("opened" in sink.kinds()) is opened


def test_faces_are_found_in_the_small_picture_and_embedded_from_the_large(
    gallery: Gallery,
) -> None:
    large = fake_picture(RED)
    small = np.ascontiguousarray(large[::2, ::2])
    door, _ = door_of(gallery)
    frames = [Frame(large, 0.2 * i, i, small) for i in range(3)]
    steps: list[DoorStep] = []
    run_door(Frames(*frames), door, on_step=steps.append)
    assert steps[-1].admission.verdict is Verdict.OPEN
    assert steps[-1].sample is not None
    assert steps[-1].sample.face.width_px == pytest.approx(112, abs=3)


def test_frozen_camera_lets_nobody_in_and_is_told_of(gallery: Gallery) -> None:
    door, _ = door_of(gallery, DoorConfig(votes=40, window=40, window_s=60.0))
    frames = lived(*[GREEN] * 5)
    start_s = frames[-1].captured_at_s
    frozen = [Frame(fake_picture(RED), start_s + 0.2 * i, 5 + i) for i in range(1, 80)]
    moving = lived(None, None)
    after = [replace(f, captured_at_s=f.captured_at_s + 100.0) for f in moving]
    sink = RecordingSink()
    attendants = Attendants(health=HealthMonitor())
    run_door(Frames(*frames, *frozen, *after), door, [sink], attendants=attendants)
    assert [e.reason for e in sink.events if e.kind is EventKind.CAMERA] == ["ok", "frozen", "ok"]
    assert "opened" not in sink.kinds()
    decisions = [e for e in sink.events if e.kind is EventKind.DECISION]
    assert len(decisions) < 5 + 79


def test_camera_that_is_lost_and_found_takes_no_votes_along(gallery: Gallery) -> None:
    door, _ = door_of(gallery)
    opened: list[int] = []

    class Camera(ArraySource):
        def __iter__(self) -> Iterator[Frame]:
            yield from lived(RED, RED)  # two of three votes
            raise SourceError("unplugged")

    def open_camera() -> Camera:
        opened.append(1)
        return Camera([])

    sink = RecordingSink()
    now_s = [0.0]

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    source = ReconnectingSource(open_camera, clock=lambda: now_s[0], sleep=sleep)
    reason = run_door(
        source,
        door,
        [sink],
        stop=lambda: len(opened) > 3,
        attendants=Attendants(health=HealthMonitor()),
    )
    assert reason is StopReason.STOP_ASKED
    assert "opened" not in sink.kinds()
    told = [e.reason for e in sink.events if e.kind is EventKind.CAMERA]
    assert told[:4] == ["ok", "stopped", "ok", "stopped"]


def test_pictures_of_another_size_take_back_votes(gallery: Gallery) -> None:
    door, _ = door_of(gallery)
    frames = lived(RED, RED, RED)
    other = replace(frames[2], image=np.pad(frames[2].image, ((0, 16), (0, 16), (0, 0))))
    sink = RecordingSink()
    run_door(Frames(*frames[:2], other), door, [sink])
    assert "opened" not in sink.kinds()


def test_gallery_that_another_process_locks_lets_nobody_in_until_it_is_free(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, _ = door_of(gallery)
    now_s, broken = [0.0], [False]
    whole = Gallery.change_counter

    def change_counter(self: Gallery) -> int:
        if broken[0]:
            raise GalleryError("g.sqlite: another process holds the gallery")
        return whole(self)

    monkeypatch.setattr(Gallery, "change_counter", change_counter)

    def hold(held: bool, at_s: float) -> Callable[[], None]:
        def call() -> None:
            broken[0], now_s[0] = held, at_s

        return call

    frames = lived(*[RED] * 12)
    sink = RecordingSink()
    run_door(
        Frames(*frames[:2], hold(True, 1.0), *frames[2:8], hold(False, 5.0), *frames[8:]),
        door,
        [sink],
        gallery=gallery,
        clock=lambda: now_s[0],
    )
    assert sink.kinds() == ["started", "gallery", "gallery", "opened", "locked", "stopped"]
    opened = next(e for e in sink.events if e.kind is EventKind.OPENED)
    assert opened.decision is not None
    assert opened.decision.sequence == 10  # three votes after it came back


def test_clock_that_jumps_back_a_year_keeps_a_schedule_shut_until_it_is_set_anew(
    gallery: Gallery,
) -> None:
    noon = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    always = {"days": DAYS, "begins": "00:00", "ends": "23:59"}
    gallery.describe("ann", SubjectDetails.model_validate({"schedule": [always]}))
    wall, synchronised = [noon], [True]
    clock = TrustedClock(
        wall=lambda: wall[0], elapsed=lambda: 100.0, synchronised=lambda: synchronised[0]
    )
    lock = SimulatedLock()
    door, _ = door_of(gallery, lock=lock)

    def jump() -> None:
        wall[0] = noon.replace(year=2025)  # a noon too, within the schedule

    def stop_vouching() -> None:
        synchronised[0] = False

    def set_anew() -> None:
        wall[0], synchronised[0] = noon, True
        assert lock.is_locked

    sink = RecordingSink()
    frames = lived(*[None] * 2, *[RED] * 20, *[None] * 60, *[RED] * 10)
    run_door(
        Frames(
            *frames[:2], jump, *frames[2:12], stop_vouching, *frames[12:60], set_anew, *frames[60:]
        ),
        door,
        [sink],
        gallery=gallery,
        attendants=Attendants(wall_clock=clock),
    )
    opened = [e for e in sink.events if e.kind is EventKind.OPENED]
    assert len(opened) == 1
    assert opened[0].decision is not None
    assert opened[0].decision.sequence >= 82


class Keys:
    def __init__(self) -> None:
        self.entries: list[str] = []

    def take(self) -> str | None:
        return self.entries.pop(0) if self.entries else None

    def close(self) -> None:
        """Nothing is held."""


def test_second_factor_opens_what_the_face_alone_does_not(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "factors.json"
    SecondFactors(path).add(subject_uid(gallery.store, "ann"), "pin", "1357")
    config = DoorConfig.model_validate({"second_factor": {"demand": "always", "file": path}})
    for entry, last in (("1357", "opened"), ("1358", "refused")):
        door, _ = door_of(gallery, config)
        keys, sink = Keys(), RecordingSink()
        frames = lived(*[RED] * 6)
        run_door(
            Frames(
                *frames[:4], lambda keys=keys, entry=entry: keys.entries.append(entry), *frames[4:]
            ),
            door,
            [sink],
            attendants=Attendants(keypad=keys),
        )
        assert sink.kinds() == [
            "started",
            "asked",
            last,
            *(["locked"] if last == "opened" else []),
            "stopped",
        ]


def test_pin_of_a_subject_who_was_removed_opens_for_nobody_of_the_same_id(
    gallery: Gallery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "factors.json"
    SecondFactors(path).add(subject_uid(gallery.store, "ann"), "pin", "1357")
    gallery.enrol("bob", np.stack([fake_embedding(GREEN)]), [0.9], AT)
    gallery.rename("ann", "anna")  # the same person: the PIN stays hers
    table = {"demand": "always", "file": path}
    config = DoorConfig.model_validate({"second_factor": table})
    assert _entered(gallery, config, "anna", "1357")
    assert not _entered(gallery, config, "bob", "1357")
    assert not caplog.records
    gallery.remove("anna")
    gallery.enrol("anna", np.stack([fake_embedding(RED)]), [0.9], AT)  # another person
    assert not _entered(gallery, config, "anna", "1357")
    assert "factors of 1 who are not enrolled" in caplog.text
    assert not _entered(gallery, config, "nobody", "1357")


def _entered(gallery: Gallery, config: DoorConfig, subject_id: str, entry: str) -> bool:
    keeper = make_gatekeeper(config, gallery)
    assert keeper._check_factor is not None
    return keeper._check_factor(subject_id, entry)


def test_what_the_lock_tells_becomes_events(gallery: Gallery) -> None:
    class Telling(SimulatedLock):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[LockNotice] = []

        def take_notices(self) -> list[LockNotice]:
            notices, self.told = self.told, []
            return notices

    lock, sink = Telling(), RecordingSink()
    lock.told.append(LockNotice(NoticeKind.TAMPER, -1.0, "before the start"))
    door, _ = door_of(gallery, lock=lock)
    frames = lived(None, None)
    forced = [LockNotice(NoticeKind.FORCED, 0.0), LockNotice(NoticeKind.TAMPER, 0.0)]
    run_door(Frames(frames[0], lambda: lock.told.extend(forced), frames[1]), door, [sink])
    assert sink.kinds() == ["started", "tamper", "door_forced", "tamper", "stopped"]


def test_lost_lock_ends_the_door(gallery: Gallery) -> None:
    class Gone(SimulatedLock):
        def beat(self) -> None:
            raise LockError("the lock process is gone")

    sink = RecordingSink()
    with pytest.raises(LockError, match="gone"):
        run_door(Frames(*lived(RED)), door_of(gallery, lock=Gone())[0], [sink])
    assert sink.kinds() == ["started", "stopped"]


def test_configuration_is_read_again_without_losing_votes(
    gallery: Gallery, caplog: pytest.LogCaptureFixture
) -> None:
    old = DoorConfig(votes=5)
    door, keeper = door_of(gallery, old)
    asked = iter([False, False, True, False, False])

    def reload(running: Door) -> None:
        new = DoorConfig(votes=3, source="rtsp://elsewhere/")
        assert reconfigure(running, keeper, old, new).source == "camera"

    sink = RecordingSink()
    attendants = Attendants(hang_up=lambda: next(asked), reload=reload)
    run_door(Frames(*lived(*[RED] * 4)), door, [sink], attendants=attendants)
    assert sink.kinds() == ["started", "reloaded", "opened", "stopped"] or sink.kinds() == [
        "started",
        "reloaded",
        "opened",
        "locked",
        "stopped",
    ]
    opened = next(e for e in sink.events if e.kind is EventKind.OPENED)
    assert opened.votes == 3
    assert "at the next start only: source" in caplog.text


def test_configuration_that_is_wrong_changes_nothing(gallery: Gallery) -> None:
    door, _ = door_of(gallery)

    def reload(_: Door) -> None:
        raise ConfigError("votes: expected fewer")

    hang_up = iter([True, *[False] * 9])
    sink = RecordingSink()
    attendants = Attendants(hang_up=lambda: next(hang_up), reload=reload)
    run_door(Frames(*lived(*[RED] * 4)), door, [sink], attendants=attendants)
    assert sink.kinds()[:3] == ["started", "reloaded", "opened"]
    assert "refused" in next(e.reason for e in sink.events if e.kind is EventKind.RELOADED)


def test_service_manager_hears_that_the_door_is_ready_alive_and_stopping(
    gallery: Gallery, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
        now_s = iter(0.3 * i for i in range(1000))
        run_door(
            Frames(*lived(*[None] * 20)),
            door_of(gallery)[0],
            attendants=Attendants(manager=ServiceManager(environment)),
            clock=lambda: next(now_s),
        )
        heard = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(manager.recv(4096).decode())
    assert heard[0].startswith("READY=1")
    assert heard[-1] == "STOPPING=1"
    assert 5 <= heard.count("WATCHDOG=1") <= 7  # a third of three seconds apart, over six
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()


def test_events_are_rotated_and_a_cut_line_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "log" / "events.jsonl"
    path.parent.mkdir()
    path.write_text('{"event":"sta')
    sink = EventFile(path, max_bytes=300, kept=2)
    for _ in range(30):
        sink.emit(Event(EventKind.STARTED))
    sink.close()
    assert sorted(f.name for f in path.parent.iterdir()) == [
        "events.jsonl",
        "events.jsonl.1",
        "events.jsonl.2",
    ]
    for file in path.parent.iterdir():
        assert all(json.loads(line)["event"] for line in file.read_text().splitlines())
    cut = tmp_path / "cut.jsonl"
    cut.write_text('{"event":"sta')
    sink = EventFile(cut)
    sink.emit(Event(EventKind.STOPPED))
    sink.close()
    assert json.loads(cut.read_text().splitlines()[1])["event"] == "stopped"


def test_full_disk_stops_the_events_and_not_the_door(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.jsonl"
    path.symlink_to("/dev/full")
    sink = EventFile(path)
    for _ in range(3):
        sink.emit(Event(EventKind.STARTED))
    assert caplog.text.count("events cannot be written") == 1
    path.unlink()
    sink.emit(Event(EventKind.STOPPED))
    sink.close()
    assert "3 events were lost" in caplog.text
    assert json.loads(path.read_text())["event"] == "stopped"
