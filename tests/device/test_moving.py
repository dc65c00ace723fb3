"""A gallery that moves to another model: who moves, who must come back, and what serves meanwhile."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import moving_workload as workload
import numpy as np
import pytest
from moving_workload import AT, NEW, OLD, Coloured, colour_crop, old_gallery

from limen.calibration.conditions import Condition
from limen.calibration.operating_point import ConditionPoint, OperatingPoint
from limen.device.fakes import FakeDetector, fake_operating_point, fake_picture
from limen.device.former import Former
from limen.device.gallery import Gallery
from limen.device.gallery.adaptation import (
    AdaptationPolicy,
    adapt,
    adapted_references,
    set_policy,
)
from limen.device.gallery.keys import default_key
from limen.device.gallery.moving import finish, former_references, stage, switch
from limen.device.gallery.schema import VERSION_2
from limen.device.gallery.signing import verified
from limen.device.loading import load_recogniser
from limen.device.side_by_side import SideBySide
from limen.device.subjects import SubjectDetails
from limen.device.values import Frame, Outcome
from limen.errors import CalibrationError, GalleryError, ModelMismatchError
from limen.recognition import acquire

RED, GREEN, BLUE = (250, 20, 20), (20, 250, 20), (20, 20, 250)


@pytest.fixture
def gallery(tmp_path: Path):
    """Ann and bo are known by kept crops, cy by none; calibrated with the old model."""
    with old_gallery(tmp_path / "g.db", {"ann": RED, "bo": GREEN}, {"cy": BLUE}) as opened:
        opened.keep_operating_point(fake_operating_point(0.9, OLD))
        yield opened


def move(gallery: Gallery) -> None:
    assert switch(gallery.store, NEW, stage(gallery.store, NEW, Coloured(NEW).embed))


def with_strict_light(threshold: float, model_id: str) -> OperatingPoint:
    """A point that nobody reaches by night, nor by day, which nobody measured."""
    night = ConditionPoint(
        condition=Condition.NIGHT,
        threshold=1.0001,
        fmr=0.0,
        fmr_upper_bound=1e-3,
        non_mated_comparisons=3000,
        visits=3,
    )
    point = fake_operating_point(threshold, model_id)
    return point.model_copy(update={"by_light": True, "conditions": (night,)})


class Unlike(Coloured):
    """Sees nobody whom it knows."""

    def embed(self, aligned):
        return np.tile(np.eye(self.size, dtype=np.float32)[-1], (len(aligned), 1))


def frame_of(colour: tuple[int, int, int]) -> Frame:
    return Frame(fake_picture(colour), 0.0, 0)


def decided(gallery: Gallery, model_id: str, colour, former: Former | None = None):
    recogniser = load_recogniser(gallery, model_id, former=former)
    frame = frame_of(colour)
    sample = acquire(frame.image, FakeDetector(), Coloured(model_id))
    decision = recogniser.decide(sample, frame)
    return decision.outcome, decision.candidate and decision.candidate.subject_id


def test_kept_crops_are_embedded_again_and_the_others_must_come_back(gallery) -> None:
    old_rows = gallery.references()
    move(gallery)
    assert gallery.model_id == NEW
    records = {r.subject_id: (r.references, r.crops) for r in gallery.subjects()}
    assert records == {"ann": (2, 2), "bo": (2, 2), "cy": (0, 0)}
    new = gallery.references()
    assert new.subject_ids == ("ann", "bo")
    expected = Coloured(NEW).embed(np.stack([colour_crop(RED)]))[0]
    assert new.embeddings[0] @ expected > 0.99  # but for JPEG
    assert new.embeddings.shape[1] == Coloured(NEW).size != old_rows.embeddings.shape[1]
    under_way = gallery.move_under_way()
    assert under_way is not None
    assert (under_way.former, under_way.waiting) == (OLD, ("cy",))
    aside = former_references(gallery.store)
    assert aside.subject_ids == old_rows.subject_ids
    np.testing.assert_array_equal(aside.embeddings, old_rows.embeddings)
    assert gallery.operating_point() is None
    (entry,) = [e for e in gallery.audit.entries() if e.kind == "moved to another model"]
    assert (entry.detail or {})["references"] == 4
    gallery.check()


def test_references_that_the_door_added_by_itself_serve_no_longer(gallery) -> None:
    set_policy(gallery.store, AdaptationPolicy(above=0.05))
    enrolled = gallery.references()
    visit = enrolled.embeddings[enrolled.subject == 2][0].copy()  # cy
    visit[-1] = 0.2
    visit /= np.linalg.norm(visit)
    assert adapt(gallery.store, "cy", visit, 0.9, datetime.fromisoformat(AT)) == ""
    assert len(adapted_references(gallery.store)) == 1
    move(gallery)
    assert adapted_references(gallery.store) == []
    aside = former_references(gallery.store)
    np.testing.assert_array_equal(aside.embeddings, enrolled.embeddings)
    assert aside.subject_ids == enrolled.subject_ids
    (entry,) = [e for e in gallery.audit.entries() if e.kind == "moved to another model"]
    assert (entry.detail or {})["adapted_left_behind"] == 1
    gallery.check()


def test_until_the_new_model_is_calibrated_the_former_serves_everybody(gallery) -> None:
    move(gallery)
    former = Former(Coloured(OLD), FakeDetector())
    for name, colour in (("ann", RED), ("cy", BLUE)):
        assert decided(gallery, NEW, colour, former) == (Outcome.MATCH, name)
    with pytest.raises(CalibrationError, match="run 'limen calibrate' with the new bundle"):
        load_recogniser(gallery, NEW)


def test_each_subject_is_then_compared_by_one_model_only(gallery) -> None:
    move(gallery)
    gallery.keep_operating_point(fake_operating_point(0.95, NEW))
    for shared in (FakeDetector(), None):
        former = Former(Coloured(OLD), shared)
        recogniser = load_recogniser(gallery, NEW, former=former)
        assert isinstance(recogniser, SideBySide)
        assert recogniser.subject_ids == ("ann", "bo")
        assert decided(gallery, NEW, GREEN, former) == (Outcome.MATCH, "bo")
        assert decided(gallery, NEW, BLUE, former) == (Outcome.MATCH, "cy")
        assert decided(gallery, NEW, (200, 200, 200), former)[0] is Outcome.NO_MATCH
    # Without the former bundle, whoever only it knows is a stranger.
    assert decided(gallery, NEW, GREEN) == (Outcome.MATCH, "bo")
    assert decided(gallery, NEW, BLUE)[0] is Outcome.NO_MATCH


def test_scores_stand_at_their_own_models_threshold(gallery) -> None:
    move(gallery)
    gallery.keep_operating_point(fake_operating_point(0.95, NEW))
    recogniser = load_recogniser(gallery, NEW, former=Former(Coloured(OLD), FakeDetector()))
    for colour, threshold in ((GREEN, 0.95), (BLUE, 0.9)):
        frame = frame_of(colour)
        sample = acquire(frame.image, FakeDetector(), Coloured(NEW))
        assert recogniser.decide(sample, frame).threshold == threshold


def test_each_models_thresholds_by_light_count_while_the_gallery_moves(gallery) -> None:
    gallery.keep_operating_point(with_strict_light(0.9, OLD))
    move(gallery)
    assert decided(gallery, OLD, BLUE)[0] is Outcome.NO_MATCH  # a door with the old bundle
    gallery.keep_operating_point(with_strict_light(0.95, NEW))
    former = Former(Coloured(OLD), FakeDetector())
    recogniser = load_recogniser(gallery, NEW, former=former)
    assert recogniser.threshold_for(frame_of(GREEN)) == 1.0001
    for colour in (GREEN, BLUE):  # at the general thresholds both would match
        assert decided(gallery, NEW, colour, former)[0] is Outcome.NO_MATCH
    assert decided(gallery, NEW, GREEN)[0] is Outcome.NO_MATCH  # without the former bundle


def test_lookalike_of_somebody_who_waits_stays_one(tmp_path: Path) -> None:
    """Ann moves, her lookalike cy waits: each model alone would see no second of the kind."""
    people = {"ann": BLUE, "bo": GREEN}
    with old_gallery(tmp_path / "g.db", people, {"cy": (30, 20, 240)}) as gallery:
        gallery.keep_operating_point(fake_operating_point(0.9, OLD))
        before = load_recogniser(gallery, OLD, find_lookalikes=True).lookalikes
        assert before == {"ann", "cy"}
        move(gallery)
        former = Former(Coloured(OLD), None)
        for calibrated in (False, True):
            if calibrated:
                gallery.keep_operating_point(fake_operating_point(0.999, NEW))
            door = load_recogniser(gallery, NEW, former=former, find_lookalikes=True)
            assert door.lookalikes == before
        assert load_recogniser(gallery, NEW, former=former).lookalikes == frozenset()
        assert load_recogniser(gallery, OLD, find_lookalikes=True).lookalikes == before
        # Where one model alone takes a face for either, the decision says so.
        sample = acquire(frame_of(BLUE).image, FakeDetector(), Coloured(NEW))
        strange = replace(sample, embedding=np.eye(Coloured(NEW).size, dtype=np.float32)[-1])
        old = door.decide(strange, frame_of(BLUE))
        assert (old.outcome, old.lookalike) == (Outcome.MATCH, True)
        assert old.candidate is not None
        assert old.candidate.subject_id == "cy"
        blind = Former(Unlike(OLD), None)
        door = load_recogniser(gallery, NEW, former=blind, find_lookalikes=True)
        for colour, alike in ((BLUE, True), (GREEN, False)):
            sample = acquire(frame_of(colour).image, FakeDetector(), Coloured(NEW))
            new = door.decide(sample, frame_of(colour))
            assert (new.outcome, new.lookalike) == (Outcome.MATCH, alike)


def test_second_factor_of_somebody_who_waits_is_taken(gallery) -> None:
    move(gallery)
    gallery.keep_operating_point(fake_operating_point(0.95, NEW))
    former = Former(Coloured(OLD), FakeDetector())
    door = load_recogniser(gallery, NEW, former=former)
    assert [door.may_enter(name) for name in ("ann", "cy", "nobody")] == [True, True, False]
    for name in ("bo", "cy"):
        gallery.describe(name, SubjectDetails(may_enter=False))
    door = load_recogniser(gallery, NEW, former=former)
    assert [door.may_enter(name) for name in ("ann", "bo", "cy")] == [True, False, False]


def test_face_that_both_models_take_for_somebody_is_nobodys(gallery) -> None:
    move(gallery)
    gallery.keep_operating_point(fake_operating_point(0.95, NEW))

    class Confused(Coloured):
        def embed(self, aligned):
            return Coloured(OLD).embed(np.stack([colour_crop(BLUE)] * len(aligned)))

    outcome, _ = decided(gallery, NEW, GREEN, Former(Confused(OLD), None))
    assert outcome is Outcome.NO_MATCH


def test_door_that_still_runs_the_old_bundle_goes_on_with_it(gallery) -> None:
    move(gallery)
    for name, colour in (("ann", RED), ("cy", BLUE)):
        assert decided(gallery, OLD, colour) == (Outcome.MATCH, name)
    with pytest.raises(ModelMismatchError, match="on its way"):
        load_recogniser(gallery, "other")
    with pytest.raises(ModelMismatchError, match="former model"):
        load_recogniser(gallery, NEW, former=Former(Coloured("other"), None))


def test_rights_count_with_both_models(gallery) -> None:
    move(gallery)
    gallery.keep_operating_point(fake_operating_point(0.95, NEW))
    former = Former(Coloured(OLD), FakeDetector())
    for name, colour in (("bo", GREEN), ("cy", BLUE)):
        assert decided(gallery, NEW, colour, former)[0] is Outcome.MATCH
        gallery.describe(name, SubjectDetails(may_enter=False))
        assert decided(gallery, NEW, colour, former)[0] is Outcome.NO_MATCH


def test_whoever_comes_back_is_the_new_models_and_the_move_can_be_finished(gallery) -> None:
    with pytest.raises(GalleryError, match="nothing to finish"):
        finish(gallery.store)
    move(gallery)
    with pytest.raises(GalleryError, match="1 people are known to the old model only"):
        finish(gallery.store)
    with pytest.raises(GalleryError, match="run 'limen calibrate' first"):
        finish(gallery.store, leave_behind=True)
    gallery.check()
    gallery.keep_operating_point(fake_operating_point(0.95, NEW))
    rows = Coloured(NEW).embed(np.stack([colour_crop(BLUE)]))
    gallery.enrol("cy", rows, [0.9], AT)
    under_way = gallery.move_under_way()
    assert under_way is not None
    assert under_way.waiting == ()
    sealed = _other_templates(gallery.path)
    assert len(sealed) == 6
    assert all(_is_in_file(gallery.path, record) for record in sealed)
    assert finish(gallery.store)
    assert not any(_is_in_file(gallery.path, record) for record in sealed)
    assert gallery.move_under_way() is None
    assert gallery.references().subject_ids == ("ann", "bo", "cy")
    gallery.check()


def test_leaving_behind_must_be_said_and_keeps_the_record(gallery) -> None:
    move(gallery)
    gallery.keep_operating_point(fake_operating_point(0.95, NEW))
    finish(gallery.store, leave_behind=True)
    assert {r.subject_id: r.references for r in gallery.subjects()}["cy"] == 0
    assert gallery.references().subject_ids == ("ann", "bo")


def test_erasing_somebody_erases_both_models_templates(gallery) -> None:
    move(gallery)
    sealed = _other_templates(gallery.path)
    erased = [gallery.remove(name) for name in ("ann", "cy")]
    assert [e.templates_of_another_model for e in erased] == [2, 2]
    assert erased[0].receipt["templates_of_another_model"] == 2
    verified(erased[0].receipt)
    left = _other_templates(gallery.path)
    assert len(left) == 2
    assert not any(_is_in_file(gallery.path, record) for record in set(sealed) - set(left))
    assert former_references(gallery.store).subject_ids == ("bo",)


def test_merging_and_rekeying_keep_what_the_former_serves(gallery) -> None:
    move(gallery)
    gallery.merge("ann", "cy")
    gallery.rekey()
    gallery.check()
    aside = former_references(gallery.store)
    assert aside.subject_ids == ("ann", "bo")
    assert len(aside.embeddings) == 6


def test_second_move_waits_for_the_first_and_the_old_bundle_cannot_write(gallery) -> None:
    move(gallery)
    with pytest.raises(GalleryError, match="is not finished"):
        stage(gallery.store, "third", Coloured("third").embed)
    with pytest.raises(ModelMismatchError, match="moved from model old"):
        Gallery.open(gallery.path, model_id=OLD)
    for name in ("ann", "bo", "cy"):
        gallery.remove(name)
    with pytest.raises(ModelMismatchError, match="moved from model old"):  # an empty one, too
        Gallery.open(gallery.path, model_id=OLD)


def test_crop_that_was_kept_after_staging_is_not_lost(gallery) -> None:
    unreadable = stage(gallery.store, NEW, Coloured(NEW).embed)
    workload.enrol(gallery, "dee", (250, 250, 20), crops=True)
    assert not switch(gallery.store, NEW, unreadable)
    assert gallery.model_id == OLD
    move(gallery)
    assert gallery.references().subject_ids == ("ann", "bo", "dee")


def test_crop_that_is_no_picture_is_passed_over(gallery) -> None:
    rows = Coloured(OLD).embed(np.stack([colour_crop(RED)]))
    gallery.enrol("eve", rows, [0.9], AT, crops=[b"no picture"])
    unreadable = stage(gallery.store, NEW, Coloured(NEW).embed)
    assert len(unreadable) == 1
    assert switch(gallery.store, NEW, unreadable)
    under_way = gallery.move_under_way()
    assert under_way is not None
    assert under_way.waiting == ("cy", "eve")


def test_staging_for_another_bundle_starts_anew(gallery) -> None:
    stage(gallery.store, "third", Coloured("third").embed)
    move(gallery)
    assert gallery.references().embeddings.shape == (4, Coloured(NEW).size)


def test_killed_at_any_moment_a_move_loses_nothing_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    names = {f"p{n}": (10 + 4 * n, 250 - 4 * n, 90) for n in range(40)}
    with old_gallery(path, names, {"cy": BLUE}) as gallery:
        gallery.keep_operating_point(fake_operating_point(0.9, OLD))
    staged_before, went_on = 0, False
    for kill_after in (0, 1, 2, 4, 5, None):
        with subprocess.Popen(
            [sys.executable, workload.__file__, str(path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(1 if kill_after is None else kill_after + 1):
                process.stdout.readline()
            if kill_after is not None:
                os.kill(process.pid, signal.SIGKILL)
            process.stdout.read()
        with Gallery.open(path) as gallery:
            gallery.check()
            if gallery.model_id == OLD:
                point = gallery.operating_point()
                assert point is not None
                assert len(gallery.references().subject_ids) == 41
                staged = len(_other_templates(path))
                went_on |= staged > staged_before > 0
                assert staged >= staged_before  # what was durable is not done again
                staged_before = staged
            else:
                under_way = gallery.move_under_way()
                assert under_way is not None
                assert under_way.waiting == ("cy",)
                assert len(gallery.references().embeddings) == 80
                assert len(former_references(gallery.store).embeddings) == 82
    assert went_on
    with Gallery.open(path) as gallery:
        assert gallery.model_id == NEW


def test_gallery_of_schema_2_opens_with_its_key_and_its_people(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    with old_gallery(path, {"ann": RED}, {}):
        pass
    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE former; DROP TABLE other_template;")
    connection.execute("PRAGMA user_version = 2")
    assert "other_template" not in VERSION_2
    connection.commit()
    connection.close()
    key = default_key(path).path.read_bytes()
    with Gallery.open(path, model_id=OLD) as gallery:
        assert [r.subject_id for r in gallery.subjects()] == ["ann"]
        gallery.check()
        move(gallery)
    assert default_key(path).path.read_bytes() == key


def _other_templates(path: Path) -> list[bytes]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT sealed FROM other_template")]
    finally:
        connection.close()


def _is_in_file(path: Path, record: bytes) -> bool:
    files = [path, path.with_name(path.name + "-wal")]
    needle = record[8:40]  # a long record is spread over pages; its beginning is not
    return any(needle in file.read_bytes() for file in files if file.exists())
