"""The report: what it shows, whom it names, and that it loads nothing."""

from __future__ import annotations

import json
import stat
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from limen.bundle import CohortEmbeddings
from limen.calibration.rates import fnmr_at_fmr
from limen.device.calibration import Calibration, Wish, find_operating_point
from limen.device.gallery import Gallery
from limen.device.report import words
from limen.device.report.charts import det_svg, growth_svg, scores_svg
from limen.device.report.findings import Findings, findings
from limen.device.report.page import render
from limen.device.report.svg import even_ticks, linear, logarithmic
from limen.device.report.write import write_report
from limen.errors import ConfigError

SIZE, AT = 64, "2026-11-01T12:00:00Z"
NAMES = ("ann", "bo", "cy", "dee <script>", "eve", "flo", "gil")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def calibration_of(folder: Path, names: tuple[str, ...], shots: int) -> Calibration:
    """People of whom the first two look alike, and the third has one picture unlike the others."""
    rng = np.random.default_rng(3)
    own = np.repeat(rng.normal(size=(300, SIZE)), 4, 0)
    cohort = CohortEmbeddings(
        unit(own + 0.7 * rng.normal(size=own.shape)), np.repeat(np.arange(300), 4)
    )
    bundle = SimpleNamespace(
        cohort=lambda: cohort, manifest=SimpleNamespace(threshold_floor=None, name="default")
    )
    face = rng.normal(size=SIZE)
    with Gallery.open(folder / "g.db", model_id="3f2a" * 8, create=True) as gallery:
        for place, name in enumerate(names):
            mean = face + 0.8 * rng.normal(size=SIZE) if place < 2 else rng.normal(size=SIZE)
            rows = unit(mean + (2.5 if place == 2 else 0.6) * rng.normal(size=(shots, SIZE)))
            gallery.enrol(name, rows, [0.9] * shots, AT)
        return find_operating_point(gallery, bundle, Wish(max_fmr=1e-2), calibrated_at=AT)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Calibration:
    return calibration_of(tmp_path_factory.mktemp("gallery"), NAMES, 3)


@pytest.fixture(scope="module")
def told(found: Calibration) -> Findings:
    return of(found)


def of(found: Calibration, named: bool = True, stale: bool = False) -> Findings:
    return findings(found, named=named, stale=stale, bundle="default", rng=np.random.default_rng(1))


class Page(HTMLParser):
    """Tags that are open and never closed, and everything that would be loaded."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "br"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)


def test_the_page_is_whole_loads_nothing_and_escapes_names(told: Findings) -> None:
    text = render(told)
    page = Page(text)
    assert page.stack == []
    assert page.loads == []
    assert not page.tags & {"script", "img", "link", "iframe"}
    assert "url(" not in text
    assert "dee &lt;script&gt;" in text
    assert "$" not in text


def test_lookalikes_and_the_hard_to_match_are_named_with_what_to_do(told: Findings) -> None:
    by_kind = {person.kind: person for person in reversed(told.people)}
    assert set(by_kind["lookalikes"].people) == {"ann", "bo"}
    assert "second factor" in by_kind["lookalikes"].advice
    assert by_kind["missed"].people == ("cy",)
    assert "enrol more shots" in by_kind["missed"].advice
    assert set(told.hardest[0].people) == {"ann", "bo"}
    assert [pair.score for pair in told.hardest] == sorted(
        (pair.score for pair in told.hardest), reverse=True
    )


def test_without_the_owner_nobody_is_named_anywhere(found: Calibration) -> None:
    unnamed = of(found, named=False)
    everything = render(unnamed) + json.dumps(unnamed.as_dict())
    assert not any(f">{name}<" in everything or f'"{name}"' in everything for name in NAMES)
    assert "script" not in everything.replace("description", "")
    assert unnamed.people[0].people == ("person A", "person B")
    assert "--names" in words.people_words(unnamed)


def test_the_curve_is_the_plain_rate_at_every_level_and_lies_in_its_band(told: Findings) -> None:
    det = told.det
    for level, fnmr in zip(det.fmr, det.fnmr, strict=True):
        assert fnmr == pytest.approx(fnmr_at_fmr(told.mated, told.non_mated, float(level)))
    assert (det.low <= det.fnmr).all()
    assert (det.fnmr <= det.high).all()
    assert (np.diff(det.fnmr) <= 0).all()


def test_drawings_are_well_formed_and_say_what_they_show(told: Findings) -> None:
    for drawn in (
        scores_svg(told), det_svg(told.det, told), growth_svg(told.sizes, len(NAMES))
    ):  # fmt: skip
        root = ET.fromstring(drawn)
        _, _, width, height = (float(v) for v in root.attrib["viewBox"].split())
        assert len(root.attrib["aria-label"]) > 40
        for text in root.iter("text"):
            assert 0 <= float(text.attrib["x"]) <= width
            assert 0 <= float(text.attrib["y"]) <= height
        for mark in root.iter("circle"):
            assert 0 <= float(mark.attrib["cy"]) <= height
    assert "now: 7" in growth_svg(told.sizes, len(NAMES))


def test_the_headline_claims_no_more_than_the_bound(told: Findings) -> None:
    stated = int(words.headline(told.point).split(" in ")[1].split(" ")[0].replace(",", ""))
    assert 1 / stated >= told.point.fmr_upper_bound * (1 - 1e-12)


@pytest.mark.parametrize(
    ("rate", "sentence"),
    [
        (1e-3, "fewer than 1 in 1,000"),
        (9.94e-4, "fewer than 1 in 1,000"),
        (1.01e-3, "fewer than 1 in 990"),
        (0.2, "fewer than 20%"),
    ],
)
def test_a_bound_is_rounded_to_the_safe_side(rate: float, sentence: str) -> None:
    assert words.claim(rate) == sentence


def test_one_person_with_one_picture_still_has_a_report(tmp_path: Path) -> None:
    told = of(calibration_of(tmp_path, ("ann",), 1), stale=True)
    assert told.mated_from == "cohort"
    page = render(told)
    assert "not known" in page
    assert "limen recalibrate" in page
    assert told.people[0].kind == "few"
    assert told.hardest == ()


def test_json_holds_curves_and_figures_and_no_single_score(told: Findings) -> None:
    read = json.loads(json.dumps(told.as_dict()))
    assert len(read["det"]["fmr"]) == len(read["det"]["fnmr_high"])
    assert read["operating_point"]["threshold"] == told.point.threshold
    assert read["figures"]["eer"] >= 0
    assert not {"mated", "non_mated", "scores"} & set(read)


def test_a_report_with_names_is_for_its_owner_alone(found: Calibration, tmp_path: Path) -> None:
    for named, mode in ((True, 0o600), (False, 0o644)):
        write_report(tmp_path / "r.html", of(found, named=named))
        assert stat.S_IMODE((tmp_path / "r.html").stat().st_mode) == mode


def test_pictures_are_drawn_without_names(
    told: Findings, found: Calibration, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    write_report(tmp_path / "r.pdf", told)
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF")
    write_report(tmp_path / "r.png", told)
    write_report(tmp_path / "u.png", of(found, named=False))
    assert (tmp_path / "r.png").read_bytes() == (tmp_path / "u.png").read_bytes()
    from PIL import Image

    with Image.open(tmp_path / "r.png") as picture:
        assert picture.size == (1323, 1870)


def test_another_kind_of_file_and_a_folder_are_refused(told: Findings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends with \.html, \.png, \.pdf"):
        write_report(tmp_path / "r.docx", told)
    (tmp_path / "d.html").mkdir()
    with pytest.raises(ConfigError, match="folder"):
        write_report(tmp_path / "d.html", told)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(blocked / "r.html", told)


def test_scales_stay_within_their_ends() -> None:
    x = logarithmic(1e-4, 1e-2, 0, 100)
    assert [x(1e-4), x(1e-3), x(1e-2), x(0), x(1)] == pytest.approx([0, 50, 100, 0, 100])
    assert linear(0, 2, 10, 20)(1) == 15
    assert even_ticks(0.021) == pytest.approx([0, 0.005, 0.01, 0.015, 0.02, 0.025])
