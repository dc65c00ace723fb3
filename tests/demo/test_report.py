"""The report: one file that loads nothing, shows what happened, and trusts no name."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from limen.bundle import CohortEmbeddings
from limen.calibration.calibrate import DoorScores, calibrate
from limen.demo.people import Cast
from limen.demo.play import run_demo
from limen.demo.report import Evidence, render
from limen.demo.script import Presence, Truth
from limen.demo.setting import Setting, board_name
from limen.demo.story import DemoResult, Moment, live_truths, result_of, unlocked_spans
from limen.demo.timeline import plain_lines
from limen.demo.words import headline
from limen.device.values import Outcome, Verdict
from limen.embedder import Embedder
from limen.haar import HaarDetector

HOSTILE = '<script>alert("x")</script>&\' onload=x'
SETTING = Setting(HOSTILE, "m", HOSTILE, "haar", True, "a board", "versions")


def moment(
    number: int,
    presence: Presence,
    verdict: Verdict = Verdict.WAIT,
    *,
    visit: int = 0,
    score: float | None = None,
    locked: bool = True,
    name: str | None = None,
) -> Moment:
    """A frame a tenth of a second after the one before."""
    outcome = Outcome.FAILURE_TO_ACQUIRE
    if score is not None:
        outcome = Outcome.MATCH if score >= 0.4 else Outcome.NO_MATCH
    truth = Truth(visit, presence, name, "even light", 100.0)
    return Moment(number, number / 10, truth, outcome, verdict, locked, 0.4, score)


def story(stranger_gets_in: bool = False, name: str = "Ada") -> DemoResult:
    """Nobody, the enrolled person, a stranger."""
    last = Verdict.OPEN if stranger_gets_in else Verdict.REFUSE
    enrolled, stranger = Presence.ENROLLED, Presence.STRANGER
    return result_of(
        [
            moment(0, Presence.NOBODY, visit=0),
            moment(1, enrolled, visit=1, score=0.7, name=name),
            moment(2, enrolled, Verdict.OPEN, visit=1, score=0.8, locked=False, name=name),
            moment(3, stranger, visit=2, score=0.1, name="Bo"),
            moment(4, stranger, last, visit=2, score=0.2, name="Bo"),
        ]
    )


def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    scores = DoorScores.independent(
        np.full(5, 0.9, np.float32), rng.normal(0, 0.1, 9000).clip(-1, 1).astype(np.float32)
    )
    point = calibrate(
        scores, max_fmr=1e-3, confidence=0.95, model_id="m", enrolled_subjects=1,
        cohort_subjects=800, calibrated_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return Evidence(point, scores, references=5)


class Loads(HTMLParser):
    """Collects whatever a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        wanted = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}
        self.addresses += [value or "" for key, value in attrs if key in wanted]


def assert_loads_nothing(page: str) -> None:
    parser = Loads()
    parser.feed(page)
    assert all(address.startswith("data:image/jpeg;base64,") for address in parser.addresses)
    assert not parser.tags & {"script", "link", "iframe", "object", "embed", "base"}
    assert "http://" not in page
    assert "https://" not in page
    assert not re.search(r"url\(|@import", page)


def test_the_page_loads_nothing() -> None:
    assert_loads_nothing(render(story(), evidence(), SETTING, "today"))


def test_hostile_names_are_escaped() -> None:
    page = render(story(name=HOSTILE), evidence(), SETTING, HOSTILE)
    assert "<script" not in page
    assert_loads_nothing(page)
    assert "&lt;script&gt;" in page


def test_right_and_wrong_are_counted() -> None:
    good, bad = story(), story(stranger_gets_in=True)
    assert good.ok
    assert (good.opened, good.refused, good.wrong_openings, good.missed) == (1, 1, 0, 0)
    assert not bad.ok
    assert (bad.opened, bad.refused, bad.wrong_openings, bad.missed) == (1, 0, 1, 0)
    assert headline(good) == "The door opened for Ada once and stayed shut for Bo."
    assert "it opened for Bo" in headline(bad)


def test_an_opening_before_nobody_is_wrong() -> None:
    assert not result_of([moment(0, Presence.NOBODY, Verdict.OPEN, locked=False)]).ok


def test_time_to_open_runs_from_the_first_face() -> None:
    assert story().visits[1].opened_after_s == pytest.approx(0.1)


def test_unlocked_spans_end_with_the_story() -> None:
    assert unlocked_spans(story().moments) == [(0.2, 0.3)]


def test_a_live_camera_has_visits_and_no_truth() -> None:
    faces = [None, 1.0, 1.1, None, 1.4, *[None] * 3, 4.0]
    truths = live_truths(faces)
    assert [truth.visit for truth in truths] == [0, 1, 1, 1, 1, 2, 2, 2, 3]
    unknown = [truth.presence is Presence.UNKNOWN for truth in truths]
    assert unknown == [False, True, True, True, True, False, False, False, True]
    moments = [replace(m, truth=t) for m, t in zip(story().moments, truths[:5], strict=True)]
    page = render(result_of(moments), evidence(), SETTING, "today")
    assert "Nobody wrote down who came" in page


def test_the_timeline_reads_without_colours() -> None:
    text = "\n".join(plain_lines(story()))
    assert "Ada (enrolled)  opened" in text
    assert "Bo (stranger)  refused" in text


def test_a_board_is_named_by_its_firmware(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert board_name(model).startswith("Raspberry Pi 5 Model B Rev 1.0, ")


def test_the_demonstration_plays_from_enrolment_to_report(
    cast: Cast,
    detector: HaarDetector,
    embedder: Embedder,
    cohort: CohortEmbeddings,
    tmp_path: Path,
) -> None:
    lines: list[str] = []
    result = run_demo(
        tmp_path,
        report=lines.append,
        detector=detector,
        embedder=embedder,
        cohort=cohort,
        cast=cast,
    )
    assert result.opened == 2
    assert result.page == tmp_path / "report.html"
    assert len(list((tmp_path / "frames").glob("*.jpg"))) == len(result.moments)
    assert (tmp_path / "gallery.db").is_file()
    assert lines[0] == "Enrolling"
    page = result.page.read_text("utf-8")
    assert_loads_nothing(page)
    assert page.count("<img ") >= 10
    assert page.count("<img ") == len(re.findall(r'<img [^>]*alt="[^"]+"', page))
    assert result.moments[-1].locked
