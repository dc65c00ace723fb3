"""The report as one HTML page that loads nothing."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib import resources
from string import Template

from limen.device.report import words
from limen.device.report.charts import det_svg, growth_svg, scores_svg
from limen.device.report.findings import Findings, Person

_KINDS = {
    "lookalikes": "look alike",
    "missed": "hard to match",
    "matched": "easily matched",
    "few": "too few pictures",
}


def render(found: Findings) -> str:
    """The page as text. Names, and whatever else a user may have typed, are escaped."""
    template = Template((resources.files("limen.device.report") / "page.html").read_text("utf-8"))
    point = found.point
    return template.substitute(
        date=escape(point.calibrated_at[:10]),
        headline=escape(words.headline(point)),
        lead=escape(words.lead(found)),
        figures="".join(
            f"<div><dt>{escape(label)}</dt><dd>{escape(value)}<small>{escape(below)}</small></dd></div>"
            for label, value, below in words.figures(point)
        ),
        scores=scores_svg(found),
        scores_words=escape(words.scores_words(found)),
        trade=_section(
            "trade",
            "What another threshold would cost",
            words.trade_words(found),
            det_svg(found.det, found) if found.det is not None else None,
        ),
        growth=_section(
            "growth",
            "As people are added",
            words.growth_words(found),
            growth_svg(found.sizes, point.enrolled_subjects) if found.sizes else None,
        ),
        people_words=escape(words.people_words(found)),
        people="".join(_person(person) for person in found.people),
        hardest=_hardest(found),
        meaning=_meaning(found),
        not_known="".join(f"<li>{escape(text)}</li>" for text in words.not_known(found)),
        technical="".join(
            f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>"
            for label, value in words.technical(found)
        ),
        foot=escape(
            "This page is one file and loads nothing. It names people enrolled at your door: keep "
            "it as you would keep a list of them."
            if found.named
            else "This page is one file and loads nothing. It names nobody."
        ),
    )


def _section(name: str, title: str, sentence: str, drawn: str | None) -> str:
    if drawn is None:
        return ""
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>'
        f'<p class="aside">{escape(sentence)}</p>'
        f'<div class="drawing" tabindex="0" role="group" aria-label="{escape(title)}">{drawn}</div>'
        "</section>"
    )


def _person(person: Person) -> str:
    told = person.score is not None and person.kind in ("lookalikes", "missed")
    score = f'<span class="score">score {person.score:.2f}</span>' if told else ""
    return (
        f'<li><div class="who"><b>{escape(_and(person.people))}</b>'
        f'<span class="pill {person.kind}">{_KINDS[person.kind]}</span>{score}</div>'
        f"<p>{escape(person.advice[:1].upper() + person.advice[1:])}.</p></li>"
    )


def _hardest(found: Findings) -> str:
    if not found.hardest:
        return ""
    rows = "".join(
        f"<tr><td>{escape(_and(pair.people))}</td><td>{pair.score:.2f}</td>"
        f"<td>{'matches' if (pair.score or 0) >= found.point.threshold else 'apart'}</td></tr>"
        for pair in found.hardest
    )
    return (
        "<h3>The pairs most alike</h3><table><thead><tr><th>who</th><th>highest score</th>"
        f"<th>at {found.point.threshold:.2f}</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _meaning(found: Findings) -> str:
    rows = words.score_rows(found)
    if not rows:
        return ""
    cells = "".join(
        f"<tr><td>{escape(score)}</td><td>{escape(rare)}</td><td>{escape(ratio)}</td></tr>"
        for score, rare, ratio in rows
    )
    return (
        '<section aria-labelledby="meaning"><h2 id="meaning">What a score means</h2>'
        "<p class=\"aside\">As told by 'limen identify' and 'limen verify', never beyond what the "
        "comparisons carry.</p>"
        '<table class="meaning">'
        "<thead><tr><th>score</th><th>how rare</th><th>what it speaks for</th></tr></thead>"
        f"<tbody>{cells}</tbody></table></section>"
    )


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)
