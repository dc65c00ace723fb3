"""Calibrating a gallery: what is kept, what is refused, and that the old point stays."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from limen.bundle import CohortEmbeddings
from limen.calibration.calibrate import InsufficientEvidenceError
from limen.calibration.enrolment_faults import EnrolmentFaultError
from limen.device.calibration import (
    Wish,
    calibrate_gallery,
    find_operating_point,
    gallery_menagerie,
    keep_calibration,
    same_wish,
    sized_rates,
)
from limen.device.gallery import Gallery
from limen.errors import CalibrationError, ModelMismatchError
from limen.manifest import Cohort, Graph

M1 = "3f2a" * 8
AT = "2026-11-01T12:00:00Z"
SIZE = 64


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def bundle_of(rng: np.random.Generator, people: int = 400, pictures: int = 4, floor=None):
    own = np.repeat(rng.normal(size=(people, SIZE)), pictures, 0)
    rows = unit(own + 0.7 * rng.normal(size=own.shape))
    cohort = CohortEmbeddings(rows, np.repeat(np.arange(people), pictures))
    return SimpleNamespace(cohort=lambda: cohort, manifest=SimpleNamespace(threshold_floor=floor))


def enrol(gallery: Gallery, rng: np.random.Generator, *names: str, shots: int = 3) -> None:
    for name in names:
        rows = unit(rng.normal(size=SIZE) + 0.7 * rng.normal(size=(shots, SIZE)))
        gallery.enrol(name, rows, [0.9] * shots, AT)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def gallery(tmp_path: Path, rng: np.random.Generator):
    with Gallery.open(tmp_path / "g.db", model_id=M1, create=True) as opened:
        enrol(opened, rng, "ann", "bo", "cy")
        yield opened


def test_a_calibration_is_kept_with_its_history_and_one_step_back(gallery, rng) -> None:
    bundle = bundle_of(rng)
    first = calibrate_gallery(gallery, bundle, max_fmr=1e-2, confidence=0.95, calibrated_at=AT)
    second = calibrate_gallery(gallery, bundle, max_fmr=5e-2, confidence=0.95, calibrated_at=AT)
    assert second.threshold < first.threshold
    assert gallery.operating_point() == second
    assert gallery.step_back() == first
    assert gallery.operating_point() == first
    assert gallery.operating_points() == [first, second]
    with pytest.raises(CalibrationError, match="no earlier operating point"):
        gallery.step_back()
    assert gallery.operating_point() == first


def test_a_gallery_that_changed_meanwhile_keeps_its_old_point(gallery, rng) -> None:
    bundle = bundle_of(rng)
    old = calibrate_gallery(gallery, bundle, max_fmr=1e-2, confidence=0.95, calibrated_at=AT)
    found = find_operating_point(gallery, bundle, Wish(max_fmr=5e-2), calibrated_at=AT)
    with Gallery.open(gallery.path) as other:
        enrol(other, rng, "dee")
    with pytest.raises(CalibrationError, match="changed while it was calibrated"):
        keep_calibration(gallery, found)
    assert gallery.operating_point() == old


def test_what_cannot_be_calibrated_leaves_the_old_point(gallery, rng) -> None:
    bundle = bundle_of(rng)
    old = calibrate_gallery(gallery, bundle, max_fmr=1e-2, confidence=0.95, calibrated_at=AT)
    for max_fmr in (0.0, 1.0, -1e-3, float("nan")):
        with pytest.raises(CalibrationError, match="max_fmr"):
            calibrate_gallery(gallery, bundle, max_fmr=max_fmr, confidence=0.95, calibrated_at=AT)
    with pytest.raises(InsufficientEvidenceError, match="are missing"):
        calibrate_gallery(gallery, bundle, max_fmr=1e-12, confidence=0.95, calibrated_at=AT)
    other = CohortEmbeddings(np.eye(9, dtype=np.float32), np.arange(9))
    alien = SimpleNamespace(cohort=lambda: other, manifest=bundle.manifest)
    with pytest.raises(CalibrationError, match="cohort of another model"):
        calibrate_gallery(gallery, alien, max_fmr=1e-2, confidence=0.95, calibrated_at=AT)
    shot = unit(rng.normal(size=(1, SIZE)))
    gallery.enrol("copy", np.repeat(shot, 3, 0), [0.9] * 3, AT)
    with pytest.raises(EnrolmentFaultError, match="same picture"):
        calibrate_gallery(gallery, bundle, max_fmr=1e-2, confidence=0.95, calibrated_at=AT)
    gallery.remove("copy")
    ann = gallery.references()
    again = unit(ann.embeddings[ann.subject == 0] + 0.02 * rng.normal(size=(3, SIZE)))
    gallery.enrol("ann twice", again, [0.9] * 3, AT)
    with pytest.raises(EnrolmentFaultError, match="as alike as one person"):
        calibrate_gallery(gallery, bundle, max_fmr=1e-2, confidence=0.95, calibrated_at=AT)
    assert gallery.operating_point() == old
    twins = Wish(max_fmr=1e-1, accept_lookalikes=True)
    found = find_operating_point(gallery, bundle, twins, calibrated_at=AT)
    pair = gallery_menagerie(found).lookalikes[0]
    names = found.references.subject_ids
    assert {names[pair.first], names[pair.second]} == {"ann", "ann twice"}


def test_one_enrolled_person_is_calibrated_against_strangers_and_told_so(tmp_path, rng) -> None:
    with Gallery.open(tmp_path / "one.db", model_id=M1, create=True) as gallery:
        with pytest.raises(CalibrationError, match="nobody is enrolled"):
            find_operating_point(gallery, bundle_of(rng), Wish(), calibrated_at=AT)
        enrol(gallery, rng, "ann")
        found = find_operating_point(gallery, bundle_of(rng), Wish(max_fmr=1e-2), calibrated_at=AT)
        assert "One person is enrolled" in found.point.notes[0]
        assert found.point.non_mated_comparisons == 1600


def test_the_floor_holds_until_told_otherwise(gallery, rng) -> None:
    bundle = bundle_of(rng, floor=0.9)
    held = find_operating_point(gallery, bundle, Wish(max_fmr=1e-2), calibrated_at=AT).point
    assert held.threshold == 0.9
    told = find_operating_point(
        gallery, bundle, Wish(max_fmr=1e-2, below_floor=True), calibrated_at=AT
    ).point
    assert told.threshold < 0.9
    assert told.below_floor


def test_strangers_of_another_precision_are_told_of(gallery, rng) -> None:
    def graph(path: str, precision: str) -> Graph:
        digest = hashlib.sha256(path.encode()).hexdigest()
        return Graph(
            path=path,
            sha256=digest,
            bytes=1,
            role="embedder",
            runtime="onnx",
            precision=precision,
            layout="NCHW",
            equivalents=(digest,),
        )

    float32, int8 = graph("a.float32.onnx", "float32"), graph("a.int8.onnx", "int8")
    bundle = bundle_of(rng)
    bundle.manifest.graphs = (float32, int8)
    bundle.manifest.cohort = Cohort(
        path="cohort.npz",
        sha256="ab" * 32,
        bytes=1,
        subjects=400,
        embeddings=1600,
        precision="int8",
        graph="a.int8.onnx",
    )

    def notes(run: Graph) -> str:
        found = find_operating_point(
            gallery, bundle, Wish(max_fmr=1e-2), calibrated_at=AT, graph=run
        )
        return " ".join(found.point.notes)

    assert "embedded by a.int8.onnx at int8, and this door runs a.float32.onnx" in notes(float32)
    assert "embedded by" not in notes(int8)


def test_a_recalibration_asks_for_the_same(gallery, rng) -> None:
    wish = Wish(max_fmr=2e-2, confidence=0.9, max_fpir=0.2, probe_frames=2)
    bundle = bundle_of(rng)
    keep_calibration(gallery, find_operating_point(gallery, bundle, wish, calibrated_at=AT))
    enrol(gallery, rng, "dee")
    assert gallery.calibration_is_stale()
    assert not same_wish(gallery.operating_point()).accept_lookalikes
    again = same_wish(gallery.operating_point())
    assert (again.max_fmr, again.confidence, again.max_fpir) == (2e-2, 0.9, 0.2)
    assert again.probe_frames == 2
    keep_calibration(gallery, find_operating_point(gallery, bundle, again, calibrated_at=AT))
    assert not gallery.calibration_is_stale()
    assert gallery.operating_point().enrolled_subjects == 4


def test_a_larger_gallery_is_foretold(gallery, rng) -> None:
    found = find_operating_point(gallery, bundle_of(rng), Wish(max_fmr=1e-2), calibrated_at=AT)
    rows = sized_rates(found, 150, np.random.default_rng(0))
    assert rows[-1].subjects == 150
    assert any(row.subjects == 3 for row in rows)
    assert rows[-1].fpir > rows[0].fpir
    with pytest.raises(CalibrationError, match="gallery sizes"):
        sized_rates(found, 5000, np.random.default_rng(0))


def test_an_operating_point_of_another_model_is_refused(gallery, rng) -> None:
    found = find_operating_point(gallery, bundle_of(rng), Wish(max_fmr=1e-2), calibrated_at=AT)
    alien = found.point.model_copy(update={"model_id": "91bc" * 8})
    with pytest.raises(ModelMismatchError):
        gallery.keep_operating_point(alien)


def test_fifty_people_and_five_thousand_strangers_take_two_seconds(tmp_path, rng) -> None:
    with Gallery.open(tmp_path / "many.db", model_id=M1, create=True) as gallery:
        enrol(gallery, rng, *(f"person {n}" for n in range(50)), shots=4)
        bundle = bundle_of(rng, people=5000, pictures=1)
        began = time.process_time()  # the thread's own work, whatever else the machine does
        found = find_operating_point(gallery, bundle, Wish(), calibrated_at=AT)
        took_s = time.process_time() - began
    assert found.point.non_mated_comparisons == 250_000 + 200 * 49
    assert took_s <= 2
