"""References that the door adds by itself: off, bounded, anchored, on record, and taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import gallery_workload as workload
import numpy as np
import pytest

from limen.detection import DetectedFace
from limen.device.adapting import Adapter
from limen.device.door import DoorStep
from limen.device.events import Event, EventKind
from limen.device.fakes import fake_operating_point
from limen.device.gallery import Gallery
from limen.device.gallery.adaptation import (
    AdaptationPolicy,
    adapt,
    adapted_references,
    read_policy,
    set_policy,
    undo,
)
from limen.device.gallery.keys import KdfCost, Passphrase
from limen.device.gallery.transfer import export_subjects, import_subjects, read_export
from limen.device.trusted_clock import WallTime
from limen.device.values import Admission, Candidate, Decision, Frame, Outcome, Verdict
from limen.recognition import FaceSample

MODEL_ID, AT = workload.MODEL_ID, workload.AT
NOW = datetime(2026, 11, 4, 12, 0, tzinfo=UTC)
WEEK = timedelta(days=7)
THRESHOLD = 0.6


def near(row: np.ndarray, cosine: float, seed: int = 0) -> np.ndarray:
    """A template at this cosine from `row`."""
    away = np.random.default_rng(seed).normal(size=row.shape)
    away -= (away @ row) * row
    away /= np.linalg.norm(away)
    found = cosine * row + np.sqrt(1 - cosine**2) * away
    return np.asarray(found / np.linalg.norm(found), np.float32)


ANN = workload.references("ann", 1)[0]


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    opened = Gallery.open(tmp_path / "gallery.db", model_id=MODEL_ID, create=True)
    opened.enrol("ann", np.stack([ANN, near(ANN, 0.97, 9)]), [0.5, 0.5], AT)
    opened.enrol("bob", workload.references("bob"), [0.5, 0.5], AT)
    opened.keep_operating_point(fake_operating_point(THRESHOLD, MODEL_ID))
    set_policy(opened.store, AdaptationPolicy())
    return opened


def test_off_until_somebody_turns_it_on(tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "new.db", model_id=MODEL_ID, create=True) as gallery:
        gallery.enrol("ann", ANN[None], [0.5], AT)
        gallery.keep_operating_point(fake_operating_point(THRESHOLD, MODEL_ID))
        assert read_policy(gallery.store) is None
        assert adapt(gallery.store, "ann", near(ANN, 0.9), 0.9, NOW) == "off"
        assert gallery.subject("ann").references == 1


def test_a_good_visit_becomes_a_reference_and_is_on_record(gallery: Gallery) -> None:
    changes, state = gallery.change_counter(), gallery.reference_state()
    assert adapt(gallery.store, "ann", near(ANN, 0.85), 0.8, NOW) == ""
    assert gallery.subject("ann").references == 3
    assert gallery.change_counter() > changes  # a running door takes it over
    assert gallery.reference_state() > state  # and the calibration is known to be stale
    (one,) = adapted_references(gallery.store)
    assert one.subject_id == "ann"
    assert one.score == pytest.approx(0.85, abs=0.03)
    entry = gallery.audit.entries()[-1]
    assert (entry.kind, entry.personal) == ("adapted", {"subject_id": "ann"})
    gallery.check()


@pytest.mark.parametrize(
    ("cosine", "quality", "reason"),
    [
        (0.65, 0.9, "far enough"),  # it matches, but only just
        (0.9, 0.3, "good enough"),
        (0.9999, 0.9, "nothing new"),
    ],
)
def test_other_visits_do_not(gallery: Gallery, cosine: float, quality: float, reason: str) -> None:
    assert reason in adapt(gallery.store, "ann", near(ANN, cosine), quality, NOW)
    assert gallery.subject("ann").references == 2


def test_a_visit_like_a_negative_does_not(gallery: Gallery) -> None:
    visit = near(ANN, 0.85)
    gallery.add_negatives("ann", near(visit, 0.95, 3)[None], AT)
    assert "was taken for" in adapt(gallery.store, "ann", visit, 0.8, NOW)


def test_one_a_week_and_the_oldest_makes_room(gallery: Gallery) -> None:
    for number in range(5):
        visit = near(ANN, 0.9, number)
        assert adapt(gallery.store, "ann", visit, 0.8, NOW + number * WEEK) == ""
        too_soon = adapt(
            gallery.store, "ann", near(ANN, 0.9, 50 + number), 0.8, NOW + number * WEEK + WEEK / 2
        )
        assert "too soon" in too_soon
    times = [one.taken_at for one in adapted_references(gallery.store)]
    assert times == [(NOW + n * WEEK).isoformat(timespec="seconds") for n in (2, 3, 4)]
    assert gallery.subject("ann").references == 2 + 3


def test_step_by_step_nobody_walks_into_the_references(gallery: Gallery) -> None:
    """Each visit is like the last addition, and further from what was enrolled: it soon ends."""
    policy = AdaptationPolicy(most=10)
    set_policy(gallery.store, policy)
    visit, towards = ANN, near(ANN, 0.0, 1)
    angle, refused = 0.0, ""
    for number in range(30):
        angle += 0.12
        visit = (np.cos(angle) * ANN + np.sin(angle) * towards).astype(np.float32)
        refused = adapt(gallery.store, "ann", visit, 0.9, NOW + number * WEEK) or refused
    assert refused
    assert min(one.score for one in adapted_references(gallery.store)) >= THRESHOLD + policy.above
    references = gallery.references()
    own = references.embeddings[references.subject == 0].sum(0)
    assert ANN @ own / np.linalg.norm(own) > 0.89


def test_what_the_door_added_is_taken_back(gallery: Gallery) -> None:
    before = gallery.references().embeddings
    adapt(gallery.store, "ann", near(ANN, 0.85), 0.8, NOW)
    state = gallery.reference_state()
    assert undo(gallery.store, "bob") == 0
    assert gallery.reference_state() == state
    assert undo(gallery.store, None) == 1
    np.testing.assert_array_equal(gallery.references().embeddings, before)
    assert adapted_references(gallery.store) == []
    assert gallery.audit.entries()[-1].kind == "adaptation undone"


def test_what_the_door_added_stays_so_when_subjects_are_merged(gallery: Gallery) -> None:
    adapt(gallery.store, "ann", near(ANN, 0.85), 0.8, NOW)
    gallery.merge("bob", "ann")
    assert [one.subject_id for one in adapted_references(gallery.store)] == ["bob"]


def test_what_the_door_added_is_not_exported(gallery: Gallery, tmp_path: Path) -> None:
    adapt(gallery.store, "ann", near(ANN, 0.85), 0.8, NOW)
    passphrase = Passphrase("correct horse battery", KdfCost(64, 1, 1))
    export_subjects(gallery.store, ["ann"], passphrase, tmp_path / "out")
    with Gallery.open(tmp_path / "other.db", model_id=MODEL_ID, create=True) as other:
        import_subjects(other.store, read_export(tmp_path / "out"), passphrase)
        assert other.subject("ann").references == 2


def step(
    verdict: Verdict, *, faces: int = 1, runner_up: float = 0.1, lookalike: bool = False
) -> DoorStep:
    visit = near(ANN, 0.85)
    face = DetectedFace(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 1.0)
    crop = np.zeros((112, 112, 3), np.uint8)
    frame = Frame(np.zeros((8, 8, 3), np.uint8), 1.0, 1)
    decision = Decision(
        Outcome.MATCH,
        Candidate("ann", 0.85),
        THRESHOLD,
        1,
        1.0,
        faces=faces,
        runner_up=Candidate("bob", runner_up),
        lookalike=lookalike,
    )
    return DoorStep(
        frame,
        FaceSample(face=face, crop=crop, embedding=visit, quality=0.8, faces=faces),
        decision,
        Admission(verdict, "ann", 3, ""),
        locked=False,
    )


def adapter_of(
    gallery: Gallery, *, trusted: bool = True, model_id: str = MODEL_ID, bob: float = 0.1
) -> Adapter:
    """A door's adapter, where a look at everybody finds ann, and bob at so much."""
    everybody = [Candidate("ann", 0.85), Candidate("bob", bob)]
    return Adapter(gallery, model_id, lambda _: everybody, lambda: WallTime(NOW, trusted))


def test_somebody_as_alike_who_may_not_enter_now_keeps_a_visit_out(gallery: Gallery) -> None:
    adapter_of(gallery, bob=0.8).see(step(Verdict.OPEN))
    assert adapted_references(gallery.store) == []


def test_a_door_of_another_model_adds_nothing(gallery: Gallery) -> None:
    adapter_of(gallery, model_id="f" * 32).see(step(Verdict.OPEN))
    assert adapted_references(gallery.store) == []


def test_what_goes_wrong_while_adapting_stops_no_door(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> str:
        raise ValueError("a policy of another version")

    monkeypatch.setattr("limen.device.adapting.adapt", broken)
    adapter_of(gallery).see(step(Verdict.OPEN))
    assert adapted_references(gallery.store) == []


def test_a_door_that_opened_hands_over_the_visit(gallery: Gallery) -> None:
    adapter = adapter_of(gallery)
    adapter.see(step(Verdict.WAIT))
    assert adapted_references(gallery.store) == []
    adapter.see(step(Verdict.OPEN))
    assert len(adapted_references(gallery.store)) == 1


@pytest.mark.parametrize(
    "visit",
    [
        step(Verdict.OPEN, faces=2),
        step(Verdict.OPEN, runner_up=0.8),
        step(Verdict.OPEN, lookalike=True),
    ],
)
def test_a_visit_that_could_be_somebody_elses_is_not_handed_over(
    gallery: Gallery, visit: DoorStep
) -> None:
    adapter_of(gallery).see(visit)
    assert adapted_references(gallery.store) == []


def test_while_the_clock_is_not_trusted_nothing_is_added(gallery: Gallery) -> None:
    adapter_of(gallery, trusted=False).see(step(Verdict.OPEN))
    assert adapted_references(gallery.store) == []


@pytest.mark.parametrize(
    ("kind", "who", "added"),
    [(EventKind.OPENED, "ann", 1), (EventKind.OPENED, "bob", 0), (EventKind.REFUSED, None, 0)],
)
def test_where_a_second_factor_is_asked_for_it_must_have_been_given(
    gallery: Gallery, kind: EventKind, who: str | None, added: int
) -> None:
    adapter = adapter_of(gallery)
    adapter.see(step(Verdict.ASK))
    assert adapted_references(gallery.store) == []
    adapter.emit(Event(kind, "second factor", subject_id=who))
    adapter.emit(Event(EventKind.OPENED, "second factor given", subject_id="ann"))
    expected = added if kind is EventKind.OPENED else 0
    assert len(adapted_references(gallery.store)) == expected
