from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limen.device.admission import AdmissionPolicy, Admitter
from limen.device.door import Door, DoorStep
from limen.device.events import Event
from limen.device.fakes import (
    FAKE_MODEL_ID,
    FakeDetector,
    FakeEmbedder,
    RecordingSink,
    fake_embedding,
    fake_operating_point,
    fake_picture,
)
from limen.device.gallery import Gallery
from limen.device.loading import load_recogniser
from limen.device.lock import SimulatedLock
from limen.device.runtime import run_door
from limen.device.sources import ArraySource, FrameClock
from limen.device.values import Frame, Outcome, Verdict
from limen.device.watch import StopReason
from limen.errors import CalibrationError, LockError, ModelMismatchError, PictureError, SourceError

RED, GREEN, DARK_RED = (250, 10, 10), (10, 250, 10), (120, 5, 5)
AT = "2026-11-01T12:00:00Z"


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "g.sqlite", model_id=FAKE_MODEL_ID, create=True) as gallery:
        gallery.enrol("ann", np.stack([fake_embedding(RED)]), [0.9], AT)
        gallery.keep_operating_point(fake_operating_point(0.9))
        yield gallery


def door_of(gallery: Gallery, lock: Any = None, policy: AdmissionPolicy | None = None) -> Door:
    return Door(
        FakeDetector(),
        FakeEmbedder(),
        load_recogniser(gallery, FAKE_MODEL_ID),
        Admitter(policy or AdmissionPolicy()),
        lock or SimulatedLock(),
        unlock_for_s=3.0,
        min_quality=0.2,
        min_face_px=80,
    )


def visit(*colours: tuple[int, int, int] | None, step_s: float = 0.2) -> ArraySource:
    pictures = [fake_picture(colour) if colour else fake_picture() for colour in colours]
    return ArraySource((picture, step_s * i) for i, picture in enumerate(pictures))


def test_door_opens_for_the_enrolled_and_locks_again(gallery: Gallery) -> None:
    clock = FrameClock(visit(None, RED, DARK_RED, RED, *[None] * 20))
    lock, sink, steps = SimulatedLock(clock), RecordingSink(), list[DoorStep]()
    reason = run_door(clock, door_of(gallery, lock), [sink], on_step=steps.append, gallery=gallery)
    assert reason is StopReason.END_OF_SOURCE
    assert sink.kinds() == ["started", "opened", "locked", "stopped"]
    assert sink.events[-1].reason == "end of source"
    (opened,) = (e for e in sink.events if e.kind == "opened")
    assert (opened.subject_id, opened.votes) == ("ann", 3)
    assert [t.at_s for t in lock.transitions] == pytest.approx([0.6, 3.6])
    assert [s.locked for s in steps[:5]] == [True, True, True, False, False]
    assert steps[0].sample is None
    assert steps[0].decision.outcome is Outcome.FAILURE_TO_ACQUIRE


def test_door_refuses_a_stranger_once(gallery: Gallery) -> None:
    lock, sink = SimulatedLock(), RecordingSink()
    run_door(visit(*[GREEN] * 12), door_of(gallery, lock), [sink], gallery=gallery)
    assert sink.kinds() == ["started", "refused", "stopped"]
    assert lock.transitions == []


def test_door_stays_locked_when_no_face_is_acquired(gallery: Gallery) -> None:
    lock, sink = SimulatedLock(), RecordingSink()
    run_door(visit(*[None] * 12), door_of(gallery, lock), [sink])
    assert sink.kinds() == ["started", "stopped"]
    assert lock.transitions == []


def test_nobody_is_admitted_in_company_under_the_one_face_rule(gallery: Gallery) -> None:
    door = door_of(gallery, policy=AdmissionPolicy(one_face=True))
    source = ArraySource((fake_picture(RED, GREEN), 0.2 * i) for i in range(4))
    sink = RecordingSink()
    run_door(source, door, [sink])
    assert sink.kinds() == ["started", "stopped"]


class RaisingSource(ArraySource):
    """Breaks after its pictures."""

    def __init__(self, pictures: list[NDArray[np.uint8]], error: BaseException) -> None:
        super().__init__((picture, 0.2 * i) for i, picture in enumerate(pictures))
        self.error, self.closed = error, False

    def __iter__(self) -> Iterator[Frame]:
        yield from super().__iter__()
        raise self.error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("error", "kinds", "reason"),
    [
        (SourceError("gone"), ["locked", "source_lost", "stopped"], "source lost"),
        (KeyboardInterrupt(), ["locked", "stopped"], "interrupted"),
        (ZeroDivisionError(), ["locked", "stopped"], "failed"),
    ],
)
def test_door_is_locked_whatever_breaks_while_it_is_open(
    gallery: Gallery, error: BaseException, kinds: list[str], reason: str
) -> None:
    lock, sink = SimulatedLock(lambda: 0.0), RecordingSink()
    source = RaisingSource([fake_picture(RED)] * 3, error)
    with pytest.raises(type(error)):
        run_door(source, door_of(gallery, lock), [sink])
    assert sink.kinds() == ["started", "opened", *kinds]
    assert sink.events[-1].reason == reason
    assert [t.locked for t in lock.transitions] == [False, True]
    assert source.closed


def test_door_is_locked_when_a_step_breaks() -> None:
    class Broken(FakeEmbedder):
        def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise RuntimeError("no memory")

    lock = SimulatedLock(lambda: 0.0)
    recogniser: Any = None
    door = Door(FakeDetector(), Broken(), recogniser, Admitter(AdmissionPolicy()), lock)
    lock.open_for(3.0)
    with pytest.raises(RuntimeError):
        door.step(Frame(fake_picture(RED), 0.0, 0))
    assert lock.is_locked


def test_sink_that_breaks_locks_the_door_and_others_hear_of_it(gallery: Gallery) -> None:
    class Broken:
        def emit(self, event: Event) -> None:
            if event.kind != "started":
                raise BrokenPipeError

    lock, sink = SimulatedLock(lambda: 0.0), RecordingSink()
    with pytest.raises(BrokenPipeError):
        run_door(visit(*[RED] * 5), door_of(gallery, lock), [sink, Broken()])
    assert lock.is_locked
    assert sink.kinds()[-1] == "stopped"


def test_end_is_told_when_the_lock_does_not_obey(gallery: Gallery) -> None:
    class Stuck(SimulatedLock):
        def open_for(self, seconds: float) -> None:
            raise LockError("stuck")

    sink = RecordingSink()
    with pytest.raises(LockError):
        run_door(visit(*[RED] * 5), door_of(gallery, Stuck()), [sink])
    assert sink.kinds() == ["started", "stopped"]


def test_stop_is_asked_before_each_frame(gallery: Gallery) -> None:
    answers = iter([False, False, True])
    steps: list[DoorStep] = []
    stop: Callable[[], bool] = lambda: next(answers)  # noqa: E731  a name for its type
    reason = run_door(visit(*[RED] * 9), door_of(gallery), stop=stop, on_step=steps.append)
    assert reason is StopReason.STOP_ASKED
    assert len(steps) == 2


def test_running_door_notices_an_enrolment_and_a_removal(gallery: Gallery, tmp_path: Path) -> None:
    verdicts: list[Verdict] = []

    def change(step: DoorStep) -> None:
        verdicts.append(step.admission.verdict)
        with Gallery.open(tmp_path / "g.sqlite") as desk:
            if len(verdicts) == 2:  # two votes for ann are in
                desk.remove("ann")
            if len(verdicts) == 6:
                desk.enrol("zoe", np.stack([fake_embedding(RED)]), [0.9], AT)

    run_door(visit(*[RED] * 9), door_of(gallery), on_step=change, gallery=gallery)
    assert Verdict.OPEN not in verdicts[:6]
    assert verdicts[8] is Verdict.OPEN


def test_door_without_a_calibration_does_not_start(tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g", model_id=FAKE_MODEL_ID, create=True) as gallery:
        gallery.enrol("ann", np.stack([fake_embedding(RED)]), [0.9], AT)
        with pytest.raises(CalibrationError, match="limen calibrate"):
            load_recogniser(gallery, FAKE_MODEL_ID)


def test_door_with_a_stale_calibration_starts_with_a_warning(
    gallery: Gallery, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load_recogniser(gallery, FAKE_MODEL_ID)
        assert caplog.text == ""
        gallery.enrol("zoe", np.stack([fake_embedding(GREEN)]), [0.9], AT)
        assert load_recogniser(gallery, FAKE_MODEL_ID).threshold == 0.9
    assert "limen calibrate" in caplog.text
    assert "zoe" not in caplog.text


def test_door_of_another_model_does_not_start(gallery: Gallery) -> None:
    with pytest.raises(ModelMismatchError, match="limen enrol"):
        load_recogniser(gallery, "91bc" * 8)


def test_face_that_cannot_be_used_is_a_failure_to_acquire_and_a_warning(
    gallery: Gallery, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(FakeEmbedder):
        def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise PictureError("expected other crops")

    recogniser = load_recogniser(gallery, FAKE_MODEL_ID)
    door = Door(FakeDetector(), Odd(), recogniser, Admitter(AdmissionPolicy()), SimulatedLock())
    with caplog.at_level(logging.WARNING):
        step = door.step(Frame(fake_picture(RED), 0.0, 0))
    assert step.decision.outcome is Outcome.FAILURE_TO_ACQUIRE
    assert "expected other crops" in caplog.text


def test_pulse_beyond_the_limit_is_refused_when_the_door_is_made(gallery: Gallery) -> None:
    recogniser = load_recogniser(gallery, FAKE_MODEL_ID)
    with pytest.raises(LockError):
        Door(
            FakeDetector(),
            FakeEmbedder(),
            recogniser,
            Admitter(AdmissionPolicy()),
            SimulatedLock(),
            unlock_for_s=31.0,
        )


def test_device_imports_nothing_heavy() -> None:
    modules = "config door events fakes gallery lock_config lock_process.client opencv_source picamera_source runtime"
    imports = "; ".join(f"import limen.device.{name}" for name in modules.split())
    heavy = "{'torch', 'gpiozero', 'picamera2', 'limen.train', 'limen.export', 'limen.cli'}"
    code = f"{imports}; import sys; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
