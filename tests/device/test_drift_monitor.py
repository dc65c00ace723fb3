"""The door's memory of its visits: across restarts, killed, recalibrated, and told once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limen.calibration.drift import WINDOW
from limen.device.admission import AdmissionPolicy, Admitter
from limen.device.door import Door
from limen.device.drift_monitor import DriftMonitor, drift_reasons, drift_state
from limen.device.fakes import (
    FAKE_MODEL_ID,
    FakeDetector,
    FakeEmbedder,
    fake_embedding,
    fake_operating_point,
    fake_picture,
)
from limen.device.gallery import Gallery
from limen.device.loading import load_recogniser
from limen.device.lock import SimulatedLock
from limen.device.runtime import run_door
from limen.device.sources import ArraySource

AT = "2026-11-01T12:00:00Z"
RED, GREEN = (250, 10, 10), (60, 200, 10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Gallery.open(tmp_path / "g.db", model_id=FAKE_MODEL_ID, create=True) as gallery:
        for name, colour in (("ann", RED), ("bo", GREEN)):
            gallery.enrol(name, fake_embedding(colour)[None], [1.0], AT)
        gallery.keep_operating_point(fake_operating_point(0.9))
    return tmp_path / "g.db"


def live_through(path: Path, visits: int, *, gain: float = 1.0, start: float = 0.0) -> list[str]:
    """Open the gallery, run a door through so many visits of ann, and close it. What was told."""
    told: list[str] = []
    rng = np.random.default_rng(int(start) + visits)
    pictures = []
    for number in range(visits):
        bright = float(np.clip(gain * rng.uniform(0.7, 1.0), 0.15, 1))
        picture = (fake_picture(RED) * bright).astype(np.uint8)
        pictures += [(picture, start + 20 * number), (picture, start + 20 * number + 1)]
    with Gallery.open(path) as gallery:
        monitor = DriftMonitor(gallery, lambda reasons: told.extend(reasons))
        door = Door(
            FakeDetector(),
            FakeEmbedder(),
            load_recogniser(gallery, FAKE_MODEL_ID),
            Admitter(AdmissionPolicy(votes=2, window=3)),
            SimulatedLock(lambda: 0.0),
        )
        run_door(ArraySource(pictures), door, on_step=monitor.see)
        monitor.close()
        monitor.close()
    return told


def test_visits_are_remembered_across_restarts_without_names_or_pictures(path: Path) -> None:
    live_through(path, 7)
    live_through(path, 5)
    with Gallery.open(path) as gallery:
        state = drift_state(gallery)
        assert state.visits == 12
        marks = state.baseline[0]
        # Ann was matched, so the score is that of the other one enrolled.
        assert marks.score == pytest.approx(
            float(fake_embedding(RED) @ fake_embedding(GREEN)), abs=0.02
        )
        assert "ann" not in state.model_dump_json()
        assert not gallery.calibration_is_stale()
    assert b"baseline" not in path.read_bytes()  # sealed


def test_darker_door_says_recalibrate_once_and_why(path: Path) -> None:
    assert live_through(path, WINDOW) == []
    told = live_through(path, WINDOW, gain=0.3)
    assert len([reason for reason in told if reason.startswith("the light: lower")]) == 1
    assert live_through(path, 3, gain=0.3) == []  # told already
    with Gallery.open(path) as gallery:
        assert drift_reasons(gallery) == tuple(told)
        gallery.keep_operating_point(fake_operating_point(0.91))
        assert drift_reasons(gallery) == ()  # what it sees now is the new normal
        assert drift_state(gallery).visits == 0


def test_gallery_that_cannot_be_written_stops_no_door(path: Path, caplog) -> None:
    with Gallery.open(path) as gallery:
        monitor = DriftMonitor(gallery, lambda _: None)
        door = Door(
            FakeDetector(),
            FakeEmbedder(),
            load_recogniser(gallery, FAKE_MODEL_ID),
            Admitter(AdmissionPolicy(votes=1, window=1)),
            SimulatedLock(lambda: 0.0),
        )
        gallery.close()
        frames = ArraySource([(fake_picture(RED), 10.0 * i) for i in range(4)])
        run_door(frames, door, on_step=monitor.see)
        monitor.close()
    assert caplog.text.count("drift is not watched") == 1


def test_empty_frames_are_no_visit_and_a_pause_ends_one(path: Path) -> None:
    with Gallery.open(path) as gallery:
        monitor = DriftMonitor(gallery, lambda _: None)
        door = Door(
            FakeDetector(),
            FakeEmbedder(),
            load_recogniser(gallery, FAKE_MODEL_ID),
            Admitter(AdmissionPolicy(votes=1, window=1)),
            SimulatedLock(lambda: 0.0),
        )
        pictures = [fake_picture(RED), fake_picture(), fake_picture(RED), fake_picture()]
        frames = ArraySource(list(zip(pictures, [0.0, 1.0, 4.0, 20.0], strict=True)))
        run_door(frames, door, on_step=monitor.see)
        assert drift_state(gallery).visits == 1
        monitor.close()
        assert drift_state(gallery).visits == 1
