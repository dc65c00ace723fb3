"""Day and night at the door: points kept and taken back together, and the frame picks its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from test_guided import AT, M1, bundle_of, seen_visit, unit

from limen.calibration.conditions import Condition
from limen.device.calibration import Wish, find_operating_point, keep_calibration, same_wish
from limen.device.fakes import FakeDetector, FakeEmbedder, fake_picture
from limen.device.gallery import Gallery
from limen.device.kept_visits import scored
from limen.device.loading import load_recogniser
from limen.device.recogniser import Recogniser
from limen.device.values import Frame, Outcome
from limen.errors import CalibrationError
from limen.recognition import acquire

SIZE = 64


def frame(level: int) -> Frame:
    noise = np.random.default_rng(0).integers(0, 40, (64, 64, 3))
    return Frame(np.clip(level + noise, 0, 255).astype(np.uint8), 1.0, 1)


DAY, NIGHT = frame(120), frame(10)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def gallery(tmp_path: Path, rng: np.random.Generator):
    with Gallery.open(tmp_path / "g.db", model_id=M1, create=True) as opened:
        for name in ("ann", "bo", "cy", "dee"):
            rows = unit(rng.normal(size=SIZE) + 0.5 * rng.normal(size=(3, SIZE)))
            opened.enrol(name, rows, [0.9] * 3, AT)
        yield opened


def keep_nights(gallery, bundle, rng, *names: str, condition=Condition.NIGHT) -> None:
    references = gallery.references()
    for name in names:
        number = references.subject_ids.index(name)
        own = references.embeddings[references.subject == number].mean(0)
        probes = own + 0.5 * rng.normal(size=(5, SIZE)) / np.sqrt(SIZE)
        # By night, all faces drift towards the middle of the cohort.
        probes += 0.8 * bundle.cohort().embeddings[:200].mean(0)
        seen = dataclasses.replace(seen_visit(probes), condition=condition, light=20.0)
        kept = scored(seen, number, references, bundle.cohort(), probe_frames=1, at=AT)
        gallery.keep_visits({name: [kept]})


def test_points_by_light_are_kept_taken_back_and_asked_for_again(gallery, rng) -> None:
    bundle = bundle_of(rng)
    plain = find_operating_point(gallery, bundle, Wish(max_fmr=1e-2), calibrated_at=AT)
    keep_calibration(gallery, plain)
    wish = Wish(max_fmr=1e-2, by_light=True)
    with pytest.raises(CalibrationError, match="needs visits under that condition"):
        find_operating_point(gallery, bundle, wish, calibrated_at=AT)
    keep_nights(gallery, bundle, rng, "ann", "bo")
    with pytest.raises(CalibrationError, match="at least 3 people"):
        find_operating_point(gallery, bundle, wish, calibrated_at=AT)
    keep_nights(gallery, bundle, rng, "cy")
    found = find_operating_point(gallery, bundle, wish, calibrated_at=AT)
    keep_calibration(gallery, found)
    (night,) = found.point.conditions
    assert (night.condition, night.visits, night.mated_subjects) == (Condition.NIGHT, 3, 3)
    assert any("No point of its own by day" in note for note in found.point.notes)
    assert gallery.operating_point() == found.point
    assert same_wish(found.point).by_light
    assert gallery.operating_points()[-1].conditions == (night,)
    assert gallery.step_back() == plain.point
    assert load_recogniser(gallery, M1).threshold_for(NIGHT) == plain.point.threshold


def test_visits_of_another_cohort_carry_no_night(gallery, rng) -> None:
    keep_nights(gallery, bundle_of(rng), rng, "ann", "bo", "cy")
    wish = Wish(max_fmr=1e-2, by_light=True)
    with pytest.raises(CalibrationError, match="needs visits"):
        find_operating_point(gallery, bundle_of(rng), wish, calibrated_at=AT)


def test_the_frame_s_light_picks_the_threshold(gallery) -> None:
    references = gallery.references()
    by_light = {Condition.DAY: 0.4, Condition.NIGHT: 0.7}
    door = Recogniser(references, 0.4, by_condition=by_light)
    assert (door.threshold_for(DAY), door.threshold_for(NIGHT)) == (0.4, 0.7)
    unmeasured = Recogniser(references, 0.4, by_condition={Condition.NIGHT: 0.7})
    assert unmeasured.threshold_for(DAY) == 0.7
    with pytest.raises(CalibrationError, match="below the general one"):
        Recogniser(references, 0.4, by_condition={Condition.NIGHT: 0.3})
    with pytest.raises(CalibrationError):
        Recogniser(references, 0.4, by_condition={Condition.NIGHT: float("nan")})


def test_same_face_is_admitted_by_day_and_not_by_night(gallery, rng) -> None:
    references = gallery.references()
    templates = unit(references.embeddings[:3].sum(0))
    across = unit(rng.normal(size=SIZE))
    across = unit(across - (across @ templates) * templates)
    probe = unit(0.6 * templates + 0.8 * across)  # a score of 0.6 against the first subject
    sample = dataclasses.replace(
        acquire(fake_picture((250, 10, 10)), FakeDetector(), FakeEmbedder()), embedding=probe
    )
    door = Recogniser(references, 0.4, by_condition={Condition.DAY: 0.4, Condition.NIGHT: 0.7})
    by_day, by_night = (door.decide(sample, light) for light in (DAY, NIGHT))
    assert (by_day.outcome, by_day.threshold) == (Outcome.MATCH, 0.4)
    assert (by_night.outcome, by_night.threshold) == (Outcome.NO_MATCH, 0.7)
