"""The simulated door: the same on every run, with faces where people are and nowhere else."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from limen.demo import people
from limen.demo.doorway import SimulatedDoorway, enrolment_shots
from limen.demo.people import Cast, from_folder
from limen.demo.scene import EVEN, NIGHT
from limen.demo.script import FRAMES_PER_S, Presence, Visit, usual_script
from limen.errors import RuntimeUnavailableError, SourceError
from limen.haar import HaarDetector


def short_script(cast: Cast) -> tuple[Visit, ...]:
    """Everybody for a second."""
    return (
        Visit(Presence.NOBODY, 1.0),
        Visit(Presence.ENROLLED, 1.0, cast.enrolled, lights=(EVEN, NIGHT)),
        Visit(Presence.STRANGER, 1.0, cast.strangers[0]),
        Visit(Presence.NOBODY, 1.0, lights=(NIGHT,)),
    )


def test_the_same_seed_gives_the_same_frames(cast: Cast, detector: HaarDetector) -> None:
    one, two = (SimulatedDoorway(cast, detector, short_script(cast), seed=3) for _ in range(2))
    for first, second in zip(one, two, strict=True):
        assert np.array_equal(first.image, second.image)


def test_another_seed_gives_other_frames(cast: Cast, detector: HaarDetector) -> None:
    one, two = (SimulatedDoorway(cast, detector, short_script(cast), seed) for seed in (3, 4))
    assert not np.array_equal(next(iter(one)).image, next(iter(two)).image)


def test_frames_are_those_of_a_camera_and_each_has_its_truth(
    cast: Cast, detector: HaarDetector
) -> None:
    with SimulatedDoorway(cast, detector, short_script(cast)) as doorway:
        frames = list(doorway)
    assert len(frames) == len(doorway.script) == 4 * FRAMES_PER_S
    for number, frame in enumerate(frames):
        assert frame.image.shape == (480, 640, 3)
        assert frame.image.dtype == np.uint8
        assert frame.sequence == number
        assert frame.captured_at_s == pytest.approx(number / FRAMES_PER_S)
    assert {truth.conditions for truth in doorway.script} == {"even light", "low light"}


def test_the_finder_sees_those_who_are_there_and_nobody_else(
    cast: Cast, detector: HaarDetector
) -> None:
    doorway = SimulatedDoorway(cast, detector)
    found: dict[Presence, list[bool]] = {}
    for frame, truth in zip(doorway, doorway.script, strict=True):
        if frame.sequence % 5 == 0:
            seen = bool(detector.detect(frame.image))
            found.setdefault(truth.presence, []).append(seen)
    assert np.mean(found[Presence.ENROLLED]) > 0.8
    assert np.mean(found[Presence.STRANGER]) > 0.8
    assert np.mean(found[Presence.NOBODY]) < 0.1


def test_the_usual_script_leaves_time_for_the_door_to_lock(cast: Cast) -> None:
    visits = usual_script(cast)
    for visit, after in itertools.pairwise(visits):
        if visit.presence is not Presence.NOBODY:
            assert after.presence is Presence.NOBODY
            assert after.seconds > 3.0


def test_enrolment_shots_differ_from_each_other_and_show_a_face(
    cast: Cast, detector: HaarDetector
) -> None:
    shots = enrolment_shots(cast.enrolled, detector, n=4, seed=1)
    again = enrolment_shots(cast.enrolled, detector, n=4, seed=1)
    assert len(shots) == 4
    assert all(np.array_equal(a, b) for a, b in zip(shots, again, strict=True))
    assert not np.array_equal(shots[0], shots[1])
    assert all(detector.detect(shot) for shot in shots)


def test_people_from_a_folder_are_ordered_by_name(cast: Cast, tmp_path: Path) -> None:
    for name, person in (("Zoë", cast.enrolled), ("adam", cast.strangers[0])):
        (tmp_path / name).mkdir()
        picture = cv2.cvtColor(person.pictures[0], cv2.COLOR_RGB2BGR)
        assert cv2.imwrite(str(tmp_path / name / "one.png"), picture)
        (tmp_path / name / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    found = from_folder(tmp_path)
    assert found.enrolled.name == "adam"
    assert [person.name for person in found.strangers] == ["Zoë"]


def test_a_folder_with_one_person_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected two or more"):
        from_folder(tmp_path)


def test_a_missing_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match=r"limen\[demo\]"):
        people.demo_people()
