"""What is written of subjects, who may enter when, and what becomes of those whose time is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import gallery_workload as workload
import numpy as np
import pytest
from pydantic import ValidationError

from limen.device.fakes import fake_embedding, fake_picture
from limen.device.gallery import Gallery
from limen.device.gallery.records import Enrolment
from limen.device.permission import Permission
from limen.device.recogniser import Recogniser
from limen.device.subjects import OpenHours, References, SubjectDetails, parsed_time
from limen.device.trusted_clock import WallTime
from limen.device.values import Frame, Outcome
from limen.errors import GalleryError, SubjectNotFoundError

MODEL_ID, AT = workload.MODEL_ID, workload.AT
NOW = datetime(2026, 11, 4, 12, 0, tzinfo=UTC)  # a Wednesday
RED, GREEN = (250, 10, 10), (10, 250, 10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


def open_with(path: Path, *names: str) -> Gallery:
    gallery = Gallery.open(path, model_id=MODEL_ID, create=True)
    for name in names:
        gallery.enrol(name, workload.references(name), [0.5, 0.5], AT)
    return gallery


def test_details_come_back_as_they_were_written(path: Path) -> None:
    details = SubjectDetails.model_validate(
        {
            "display_name": "Åsa 山田 شيماء",
            "groups": ["staff", "night"],
            "schedule": [{"days": ["mon", "tue"], "begins": "08:00", "ends": "18:00"}],
            "expires_at": NOW,
            "consent": {"given_by": "ann", "given_at": NOW, "to": "opening the door"},
            "notes": "two\nlines",
        }
    )
    with open_with(path, "ann") as gallery:
        gallery.describe("ann", details)
    with Gallery.open(path) as gallery:
        assert gallery.subject("ann").details == details
        assert gallery.references().details == (details,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"display_name": "a\nb"},
        {"display_name": "x" * 10_000},
        {"display_name": "a\x00b"},
        {"notes": "a\x1b[31mb"},
        {"notes": "x" * 10_000},
        {"groups": ["a", "a"]},
        {"groups": [""]},
        {"groups": ["g"] * 21},
        {"schedule": [{"days": [], "begins": "08:00", "ends": "18:00"}]},
        {"schedule": [{"days": ["monday"], "begins": "08:00", "ends": "18:00"}]},
        {"expires_at": "2027-01-01T00:00:00"},
        {"unknown": 1},
    ],
)
def test_details_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SubjectDetails.model_validate(wrong)


def test_rename_keeps_the_references_and_takes_no_other_name(path: Path) -> None:
    with open_with(path, "ann", "bob") as gallery:
        before = gallery.references().embeddings
        gallery.rename("ann", "zo\u0065\u0308")
        assert [s.subject_id for s in gallery.subjects()] == ["bob", "zo\u00eb"]
        with pytest.raises(GalleryError, match="merge"):
            gallery.rename("bob", "zo\u00eb")
        gallery.rename("zo\u00eb", "zo\u00eb")
        with pytest.raises(SubjectNotFoundError):
            gallery.rename("ann", "ann2")
        gallery.rename("zo\u00eb", "ann")
        np.testing.assert_array_equal(gallery.references().embeddings, before)


def test_merge_makes_one_of_two(path: Path) -> None:
    with open_with(path, "ann", "ann again") as gallery:
        gallery.merge("ann", "ann again")
        references = gallery.references()
        assert references.subject_ids == ("ann",)
        np.testing.assert_array_equal(
            references.embeddings,
            np.concatenate([workload.references("ann"), workload.references("ann again")]),
        )
        gallery.check()
        with pytest.raises(GalleryError, match="itself"):
            gallery.merge("ann", "ann")
        with pytest.raises(SubjectNotFoundError):
            gallery.merge("ann", "nobody")


def test_enrolling_many_is_all_or_nothing(path: Path) -> None:
    good = Enrolment("ann", workload.references("ann"), [0.5, 0.5], AT)
    bad = Enrolment("bob", 2 * workload.references("bob"), [0.5, 0.5], AT)
    narrow = Enrolment("cid", workload.references("cid")[:, :8].copy(), [0.5, 0.5], AT)
    rows = narrow.embeddings / np.linalg.norm(narrow.embeddings, axis=1, keepdims=True)
    narrow = Enrolment("cid", rows, [0.5, 0.5], AT)
    with open_with(path) as gallery:
        for second in (bad, narrow):
            with pytest.raises(GalleryError):
                gallery.enrol_all([good, second])
            assert gallery.subjects() == []
        gallery.enrol_all([good, Enrolment("bob", workload.references("bob"), [0.5, 0.5], AT)])
        assert [s.references for s in gallery.subjects()] == [2, 2]


def test_two_enrolments_of_one_person_at_once_are_both_kept(path: Path) -> None:
    with open_with(path) as one, Gallery.open(path) as other:
        one.enrol("ann", workload.references("ann"), [0.5, 0.5], AT)
        other.enrol("ann", workload.references("more"), [0.5, 0.5], AT)
        assert [(s.subject_id, s.references) for s in one.subjects()] == [("ann", 4)]


def test_those_whose_time_is_over_are_erased(path: Path) -> None:
    with open_with(path, "ann", "bob") as gallery:
        gallery.describe("ann", SubjectDetails(expires_at=NOW))
        assert gallery.erase_expired(NOW - timedelta(seconds=1)) == []
        (erasure,) = gallery.erase_expired(NOW)
        assert erasure.subject_id == "ann"
        assert erasure.receipt["reason"] == "expired"
        assert [s.subject_id for s in gallery.subjects()] == ["bob"]


@pytest.mark.parametrize(
    ("hours", "at", "covered"),
    [
        (("wed", "08:00", "18:00"), "2026-11-04 08:00", True),
        (("wed", "08:00", "18:00"), "2026-11-04 17:59:59", True),
        (("wed", "08:00", "18:00"), "2026-11-04 18:00", False),
        (("wed", "08:00", "18:00"), "2026-11-05 12:00", False),
        (("wed", "22:00", "06:00"), "2026-11-04 23:00", True),
        (("wed", "22:00", "06:00"), "2026-11-05 05:59", True),
        (("wed", "22:00", "06:00"), "2026-11-05 06:00", False),
        (("wed", "22:00", "06:00"), "2026-11-04 05:00", False),
        (("sun", "22:00", "06:00"), "2026-11-02 01:00", True),
        (("wed", "00:00", "00:00"), "2026-11-04 12:00", True),
    ],
)
def test_hours_cover_from_their_begin_to_before_their_end(
    hours: tuple[str, str, str], at: str, covered: bool
) -> None:
    day, begins, ends = hours
    window = OpenHours.model_validate({"days": [day], "begins": begins, "ends": ends})
    assert window.covers(datetime.fromisoformat(at)) is covered


def references_with(*details: SubjectDetails) -> References:
    return References(
        ("green", "red"),
        np.array([0, 1], np.int64),
        np.stack([fake_embedding(GREEN), fake_embedding(RED)]),
        details=details,
    )


def test_permission_follows_the_clock() -> None:
    now = NOW
    references = references_with(SubjectDetails(may_enter=False), SubjectDetails(expires_at=NOW))
    permission = Permission(references, lambda: WallTime(now, True))
    assert permission.now().tolist() == [False, False]  # type: ignore[union-attr]
    now = NOW - timedelta(seconds=1)
    assert permission.now().tolist() == [False, True]  # type: ignore[union-attr]
    assert Permission(references_with(SubjectDetails(), SubjectDetails())).now() is None


def test_clock_that_is_not_trusted_lets_nobody_in_whose_time_is_limited(
    caplog: pytest.LogCaptureFixture,
) -> None:
    later = SubjectDetails(expires_at=NOW + timedelta(days=1))
    references = references_with(SubjectDetails(), later)
    believed = [True]
    permission = Permission(references, lambda: WallTime(NOW, believed[0]))
    assert permission.now() is None
    believed[0] = False
    assert permission.now().tolist() == [True, False]  # type: ignore[union-attr]
    assert caplog.messages == [m for m in caplog.messages if "clock is not trusted: 1 of" in m]
    assert len(caplog.messages) == 1
    recogniser = Recogniser(references, 0.9, permission=permission)
    assert [recogniser.may_enter(name) for name in ("green", "red", "blue")] == [True, False, False]


def test_whoever_may_not_enter_is_not_compared() -> None:
    from limen.device.fakes import FakeDetector, FakeEmbedder
    from limen.recognition import acquire

    references = references_with(SubjectDetails(), SubjectDetails(may_enter=False))
    recogniser = Recogniser(references, 0.9, permission=Permission(references))
    sample = acquire(fake_picture(RED), FakeDetector(), FakeEmbedder())
    decision = recogniser.decide(sample, Frame(fake_picture(RED), 0.0, 1))
    assert decision.outcome is Outcome.NO_MATCH
    assert decision.candidate is not None
    assert decision.candidate.subject_id == "green"


def test_negative_rules_out_the_probe_that_is_nearer_to_it() -> None:
    plain = references_with()
    nearly_red = fake_embedding((250, 60, 10))
    guarded = References(
        plain.subject_ids,
        plain.subject,
        plain.embeddings,
        negatives=nearly_red[None],
        negative_subject=np.array([1], np.int64),
    )
    assert Recogniser(plain, 0.9).identify(nearly_red, 1)[0].subject_id == "red"
    recogniser = Recogniser(guarded, 0.9)
    assert recogniser.identify(nearly_red, 1)[0].subject_id == "green"
    assert recogniser.verify(nearly_red, "red").score == -1
    assert recogniser.identify(fake_embedding(RED), 1)[0].subject_id == "red"


def test_negatives_are_kept_sealed_and_bounded(path: Path) -> None:
    with open_with(path, "ann") as gallery:
        gallery.add_negatives("ann", workload.references("bob"), AT)
        np.testing.assert_array_equal(gallery.references().negatives, workload.references("bob"))
        assert gallery.subject("ann").negatives == 2
        with pytest.raises(GalleryError, match="at most"):
            gallery.add_negatives("ann", workload.references("many", 60), AT)
        with pytest.raises(SubjectNotFoundError):
            gallery.add_negatives("bob", workload.references("ann"), AT)


def test_times_are_read_as_iso_8601() -> None:
    assert parsed_time("2027-03-31T12:00:00+02:00") == datetime(2027, 3, 31, 10, tzinfo=UTC)
    assert parsed_time("2027-03-31").tzinfo is not None
    with pytest.raises(GalleryError, match="ISO 8601"):
        parsed_time("next week")
