"""Guided visits: what is watched, what is kept of it, and what becomes of it with the gallery."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from limen.bundle import CohortEmbeddings
from limen.calibration.conditions import Condition, condition_of
from limen.calibration.fusion import fuse
from limen.device.calibration import Wish, find_operating_point
from limen.device.fakes import FakeDetector, FakeEmbedder, fake_picture
from limen.device.gallery import Gallery
from limen.device.guided import SeenVisit, VisitPolicy, watch_visit
from limen.device.kept_visits import scored
from limen.device.sources import ArraySource
from limen.errors import GalleryError, SubjectNotFoundError

AT = "2026-11-01T12:00:00Z"
M1 = "3f2a" * 8
SIZE = 64
RED, GREEN = (250, 10, 10), (10, 250, 10)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def bundle_of(rng: np.random.Generator, people: int = 400, pictures: int = 4):
    own = np.repeat(rng.normal(size=(people, SIZE)), pictures, 0)
    rows = unit(own + 0.7 * rng.normal(size=own.shape))
    cohort = CohortEmbeddings(rows, np.repeat(np.arange(people), pictures))
    return SimpleNamespace(cohort=lambda: cohort, manifest=SimpleNamespace(threshold_floor=None))


def seen_visit(probes: np.ndarray, acquired=None, condition=Condition.DAY) -> SeenVisit:
    count = len(probes)
    return SeenVisit(
        probes=unit(probes),
        acquired=np.ones(count, np.bool_) if acquired is None else np.array(acquired),
        at_s=0.2 * np.arange(count),
        track=np.ones(count, np.int64),
        condition=condition,
        light=120.0,
        width_px=150.0,
        crowded=0,
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def gallery(tmp_path: Path, rng: np.random.Generator):
    with Gallery.open(tmp_path / "g.db", model_id=M1, create=True) as opened:
        for name in ("ann", "bo", "cy"):
            rows = unit(rng.normal(size=SIZE) + 0.5 * rng.normal(size=(3, SIZE)))
            opened.enrol(name, rows, [0.9] * 3, AT)
        yield opened


def keep_visit(gallery, bundle, rng, name: str, noise: float = 0.6, acquired=None) -> None:
    references = gallery.references()
    number = references.subject_ids.index(name)
    own = references.embeddings[references.subject == number].mean(0)
    probes = own / np.linalg.norm(own) + noise * rng.normal(size=(6, SIZE)) / np.sqrt(SIZE)
    visit = scored(
        seen_visit(probes, acquired),
        number,
        references,
        bundle.cohort(),
        probe_frames=1,
        at=AT,
    )
    gallery.keep_visits({name: [visit]})


def test_watched_probes_are_the_ones_that_the_door_fuses() -> None:
    pictures = [fake_picture(RED) for _ in range(5)]
    frames = ArraySource([(picture, 10 + 0.3 * i) for i, picture in enumerate(pictures)])
    policy = VisitPolicy(probe_frames=3, seconds=1.0)
    seen = watch_visit(frames, FakeDetector(), FakeEmbedder(), policy)
    assert seen is not None
    assert seen.acquired.tolist() == [True] * 4  # the fifth came after the time was over
    assert seen.at_s == pytest.approx([0, 0.3, 0.6, 0.9])
    assert np.allclose(np.linalg.norm(seen.probes, axis=1), 1, atol=1e-5)


def test_nobody_and_two_people_are_told_apart_from_one() -> None:
    empty = [(fake_picture(), float(i)) for i in range(40)]
    assert watch_visit(ArraySource(empty), FakeDetector(), FakeEmbedder(), VisitPolicy()) is None
    two = fake_picture(RED, GREEN)
    frames = ArraySource([(two, 0.1 * i) for i in range(3)])
    seen = watch_visit(frames, FakeDetector(), FakeEmbedder(), VisitPolicy())
    assert seen is not None
    assert (seen.crowded, seen.acquired.any()) == (3, False)


def test_night_is_dark_or_without_colour() -> None:
    day = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    assert condition_of(day) is Condition.DAY
    assert condition_of((day // 8).astype(np.uint8)) is Condition.NIGHT
    grey = np.repeat(day[:, :, :1], 3, axis=2)
    assert condition_of(grey) is Condition.NIGHT


def test_visits_are_scores_of_the_runtime_s_comparison(gallery, rng) -> None:
    bundle = bundle_of(rng)
    references = gallery.references()
    templates = fuse(references.embeddings, references.subject, 3)
    probes = unit(rng.normal(size=(2, SIZE)))
    visit = scored(
        seen_visit(probes, [True, False]),
        1,
        references,
        bundle.cohort(),
        probe_frames=1,
        at=AT,
    )
    scores = probes[0] @ templates.T
    assert visit.own == (pytest.approx(float(scores[1]), abs=1e-6), None)
    assert visit.other[0] == pytest.approx(max(scores[0], scores[2]), abs=1e-6)
    assert len(visit.tail_score) == 400 * 1 // 10
    # Not one value of the probe is in what is kept.
    text = json.dumps(visit.model_dump(mode="json"))
    assert not any(f"{value:.5f}"[:8] in text for value in probes[0][:20].tolist())


def test_visits_carry_fnmr_and_frr_and_are_used_again(gallery, rng) -> None:
    bundle = bundle_of(rng)
    for name in ("ann", "bo", "cy"):
        keep_visit(gallery, bundle, rng, name)
    keep_visit(gallery, bundle, rng, "cy", acquired=[False] * 6)
    found = find_operating_point(gallery, bundle, Wish(max_fmr=1e-2), calibrated_at=AT).point
    assert found.mated_comparisons == 18
    rates = found.transaction
    assert (rates.frr_visits, rates.failures_to_acquire) == (4, 0.25)
    assert rates.frr >= 0.25
    assert any("3 of 3 people walked up to the camera: 4 by day" in note for note in found.notes)
    again = find_operating_point(gallery, bundle, Wish(max_fmr=1e-2), calibrated_at=AT).point
    assert again == found
    # Other frames in a probe, other references: the scores would not be of this comparison.
    fused = find_operating_point(
        gallery, bundle, Wish(max_fmr=1e-1, probe_frames=2), calibrated_at=AT
    ).point
    assert fused.transaction.frr_visits == 0
    gallery.enrol("ann", unit(rng.normal(size=(1, SIZE))), [0.9], AT)
    changed = find_operating_point(gallery, bundle, Wish(max_fmr=1e-2), calibrated_at=AT).point
    assert changed.transaction.frr_visits == 3
    assert any("1 earlier visits were left out" in note for note in changed.notes)


def test_visits_go_with_their_subject_and_survive_a_new_key(gallery, rng) -> None:
    bundle = bundle_of(rng)
    keep_visit(gallery, bundle, rng, "ann")
    keep_visit(gallery, bundle, rng, "bo")
    before = gallery.change_counter()
    keep_visit(gallery, bundle, rng, "bo")
    assert gallery.change_counter() == before  # no running door loses its votes for it
    gallery.rename("bo", "bob")
    gallery.remove("ann")
    path = gallery.path
    gallery.rekey()
    gallery.close()
    with Gallery.open(path) as again:
        assert {name: len(kept) for name, kept in again.visits().items()} == {"bob": 2}
        for _ in range(50):
            keep_visit(again, bundle, rng, "bob")
        assert len(again.visits()["bob"]) == 40
        with pytest.raises(SubjectNotFoundError):
            again.keep_visits({"nobody": again.visits()["bob"]})
        assert "nobody" not in again.visits()


def test_a_damaged_visit_is_a_sentence(gallery) -> None:
    from limen.device.gallery.settings import write_setting

    with gallery.store.writing() as execute:
        (tag, uid) = execute("SELECT tag, uid FROM subject").fetchone()
        assert tag
        write_setting(gallery.store.vault, execute, f"visits {uid.hex()}", [{"own": []}])
    with pytest.raises(GalleryError, match="visit in the gallery is damaged"):
        gallery.visits()
