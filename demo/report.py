"""The report: one self-contained HTML page about a demonstration."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from PIL import Image

from limen.calibration.calibrate import DoorScores
from limen.calibration.operating_point import OperatingPoint
from limen.demo import words
from limen.demo.annotate import verdict_words
from limen.demo.charts import histogram_svg, timeline_svg
from limen.demo.script import Presence
from limen.demo.setting import Setting
from limen.demo.story import DemoResult, Moment, VisitSummary
from limen.device.values import Verdict
from limen.files import write_atomically

THUMBNAIL_PX, HERO_PX = 400, 720

_SWATCHES = {
    "enrolled": '<circle class="dot enrolled" cx="11" cy="8" r="5"/>',
    "stranger": '<path class="dot stranger" d="M11,2l6,6l-6,6l-6,-6z"/>',
    "unknown": '<circle class="dot unknown" cx="11" cy="8" r="5"/>',
    "threshold": '<path class="threshold" d="M0,8h22"/>',
    "unlocked": '<rect class="unlocked" width="22" height="16"/>',
    "nobody": '<rect class="band nobody" width="22" height="16" rx="3"/>',
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the threshold rests on."""

    point: OperatingPoint
    scores: DoorScores
    references: int


def write_report(
    page: Path, result: DemoResult, evidence: Evidence, setting: Setting, date: str
) -> None:
    """Write the page to `page`. OSError as the system gives it."""
    with write_atomically(page) as file:
        file.write(render(result, evidence, setting, date).encode())


def render(result: DemoResult, evidence: Evidence, setting: Setting, date: str) -> str:
    """The page as text. Names, and whatever else a user may have typed, are escaped.

    date: as it should be read. Moments whose picture is missing have no thumbnail.
    """
    template = Template((resources.files("limen.demo") / "report.html").read_text("utf-8"))
    headline = words.headline(result)
    return template.substitute(
        title=escape(f"limen: {headline}"),
        date=escape(date),
        headline=escape(headline),
        lead=escape(words.lead(result, evidence.references)),
        figures=_figures(result),
        pair="".join(_hero(visit) for visit in _hero_visits(result)),
        timeline=timeline_svg(result, evidence.point.threshold),
        timeline_legend=_legend(result),
        visits_words=escape(_visits_words(result)),
        visits="".join(_visit(visit) for visit in _shown(result)),
        histogram=_histogram(result, evidence),
        threshold_words="".join(
            f"<p>{escape(text)}</p>" for text in words.threshold_words(evidence.point)
        ),
        not_measured="".join(f"<li>{escape(text)}</li>" for text in words.not_measured()),
        limits="".join(
            f"<div><dt>{escape(title)}</dt><dd>{escape(text)}</dd></div>"
            for title, text in words.limits(result, setting.interim_finder)
        ),
        ran=_ran(setting),
    )


def _figures(result: DemoResult) -> str:
    after = [v.opened_after_s for v in result.visits if v.opened_after_s is not None]
    quickest = f"{min(after):.1f} <small>s</small>" if after else "none"
    if result.unknown:
        opened = sum(visit.opened for visit in result.visits)
        faces = sum(visit.acquired for visit in result.visits)
        rows = [
            ("Visits", f"{result.unknown}", False),
            ("Openings", f"{opened}", False),
            ("Frames with a face", f"{faces}", False),
            ("First usable face to opening", quickest, False),
        ]
    else:
        known = result.opened + result.missed
        strangers = sum(v.presence is Presence.STRANGER for v in result.visits)
        wrong = result.wrong_openings
        rows = [
            ("Opened for the enrolled", f"{result.opened}{_of(known)}", result.missed > 0),
            ("Shut for strangers", f"{result.refused}{_of(strangers)}", result.refused < strangers),
            ("Wrong openings", f"{wrong}", wrong > 0),
            ("First usable face to opening", quickest, False),
        ]  # fmt: skip
    return "".join(
        f"<div><dt>{label}</dt><dd{' class=bad' if bad else ''}>{value}</dd></div>"
        for label, value, bad in rows
    )


def _of(count: int) -> str:
    return f" <small>of {count}</small>"


def _hero_visits(result: DemoResult) -> list[VisitSummary]:
    """A visit that opened the door and one that did not, where there are."""
    shown = _shown(result)
    opened = next((visit for visit in shown if visit.opened), None)
    shut = next((visit for visit in shown if not visit.opened), None)
    return [visit for visit in (opened, shut) if visit is not None]


def _hero(visit: VisitSummary) -> str:
    wanted = Verdict.OPEN if visit.opened else Verdict.REFUSE
    moment = next((m for m in visit.key if m.verdict is wanted), visit.key[len(visit.key) // 2])
    return _figure(
        moment, visit, HERO_PX, f"{visit.name or 'Somebody'}: {words.visit_outcome(visit).lower()}"
    )


def _visit(visit: VisitSummary) -> str:
    right = visit.as_it_should
    judged = (
        ""
        if right is None
        else '<span class="verdict">as it should</span>'
        if right
        else '<span class="verdict bad">not as it should</span>'
    )
    role = {Presence.ENROLLED: "enrolled", Presence.STRANGER: "a stranger"}.get(visit.presence)
    title = f"{visit.name or 'Somebody'}{f', {role}' if role else ''}"
    figures = "".join(
        _figure(moment, visit, THUMBNAIL_PX, _caption(moment)) for moment in visit.key
    )
    return (
        f'<article class="visit"><div class="visit-head"><h3>{escape(title)}</h3>'
        f'<span class="pill {"open" if visit.opened else "shut"}">'
        f"{escape(words.visit_outcome(visit))}</span>{judged}</div>"
        f'<p class="aside">{escape(words.visit_facts(visit))}</p>'
        f'<div class="sheet">{figures}</div></article>'
    )


def _caption(moment: Moment) -> str:
    score = f", score {moment.score:.2f}" if moment.score is not None else ""
    light = "" if moment.truth.presence is Presence.UNKNOWN else f", {moment.truth.conditions}"
    return f"{moment.at_s:.1f} s{light}{score}"


def _figure(moment: Moment, visit: VisitSummary, width_px: int, caption: str) -> str:
    if moment.picture is None:
        return ""
    verdict = verdict_words(moment)[1].lower()
    alt = f"{visit.name or 'Somebody'} at the door, {_caption(moment)}; the door: {verdict}"
    return (
        f'<figure><img src="{_data_uri(moment.picture, width_px)}" alt="{escape(alt)}" '
        f'loading="lazy"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _data_uri(picture: Path, width_px: int) -> str:
    with Image.open(picture) as image:
        small = image.convert("RGB")
        small.thumbnail((width_px, width_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _histogram(result: DemoResult, evidence: Evidence) -> str:
    rows = [
        (
            "The enrolment shots, each against the others",
            "reference",
            evidence.scores.mated.tolist(),
        )
    ]
    for visit_key, scores in _scores_by_visitor(result).items():
        presence, name = visit_key
        rows.append((f"{name or 'Somebody'} at the door", presence.value, scores))
    return histogram_svg(evidence.scores.non_mated, rows, evidence.point.threshold)


def _scores_by_visitor(result: DemoResult) -> dict[tuple[Presence, str | None], list[float]]:
    scores: dict[tuple[Presence, str | None], list[float]] = {}
    for moment in result.moments:
        if moment.score is not None and moment.truth.presence is not Presence.NOBODY:
            scores.setdefault((moment.truth.presence, moment.truth.name), []).append(moment.score)
    return scores


def _legend(result: DemoResult) -> str:
    labels = {
        "enrolled": "the enrolled person",
        "stranger": "a stranger",
        "unknown": "somebody",
        "threshold": "threshold",
        "unlocked": "door unlocked",
        "nobody": "nobody there",
    }
    present = {visit.presence.value for visit in result.visits} | {"threshold", "unlocked"}
    return _list(
        f'<svg viewBox="0 0 22 16" aria-hidden="true">{_SWATCHES[key]}</svg>{label}'
        for key, label in labels.items()
        if key in present
    )


def _list(items: Iterable[str]) -> str:
    return f'<ul class="legend">{"".join(f"<li>{item}</li>" for item in items)}</ul>'


def _visits_words(result: DemoResult) -> str:
    empty = [m for m in result.moments if m.truth.presence is Presence.NOBODY]
    seen = sum(moment.acquired for moment in empty)
    between = (
        f" In between, {len(empty)} frames showed nobody; the finder saw a face in "
        f"{seen or 'none'} of them."
        if empty
        else ""
    )
    return (
        f"What the door saw of each visit: face, landmarks, score against the threshold.{between}"
    )


def _shown(result: DemoResult) -> list[VisitSummary]:
    return [v for v in result.visits if v.presence is not Presence.NOBODY or v.opened]


def _ran(setting: Setting) -> str:
    rows = [
        ("Bundle", escape(setting.bundle)),
        ("Model", f"<code>{escape(setting.model_id)}</code>"),
        ("Runtime", escape(setting.runtime)),
        ("Face finder", escape(setting.finder)),
        ("Board", escape(setting.board)),
        ("Versions", escape(setting.versions)),
    ]
    return "".join(f"<dt>{label}</dt><dd>{value}</dd>" for label, value in rows)
