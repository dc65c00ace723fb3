"""The report's two drawings, as inline SVG: the timeline, and the scores beside the threshold.

Colours and type come from the page's style sheet, by class, so that they follow light and dark.
Every text that a user may have typed is escaped here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from limen.demo.script import Presence
from limen.demo.story import DemoResult, Moment, VisitSummary, unlocked_spans
from limen.device.values import Verdict

_WIDTH = 1040
_LEFT, _RIGHT = 64, 20

_PRESENCE = {
    Presence.NOBODY: "nobody",
    Presence.ENROLLED: "enrolled",
    Presence.STRANGER: "stranger",
    Presence.UNKNOWN: "unknown",
}


def timeline_svg(result: DemoResult, threshold: float) -> str:
    """Time from left to right: who stood there, every score, and when the door was unlocked."""
    moments = result.moments
    start, end = moments[0].at_s, max(moments[-1].at_s, moments[0].at_s + 1e-3)
    band_top, band_px, top, bottom = 30, 34, 92, 292

    def x(at_s: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (at_s - start) / (end - start)

    low = min(-0.05, *(m.score for m in moments if m.score is not None), threshold - 0.1)

    def y(score: float) -> float:
        return bottom - (bottom - top) * (score - low) / (1.03 - low)

    parts = [_frame(x, y, start, end, top, bottom)]
    for begin, until in unlocked_spans(moments):
        width = max(2.0, x(until) - x(begin))
        parts.append(
            f'<rect class="unlocked" x="{x(begin):.1f}" y="{band_top}" width="{width:.1f}" '
            f'height="{bottom - band_top}"><title>unlocked from {begin:.1f} s to {until:.1f} s'
            "</title></rect>"
        )
    for visit in result.visits:
        parts.append(_band(visit, x(visit.from_s), x(visit.until_s), band_top, band_px))
    parts.append(
        f'<line class="threshold" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
        f'y1="{y(threshold):.1f}" y2="{y(threshold):.1f}"/>'
        f'<text class="threshold-label" x="{_WIDTH - _RIGHT}" y="{y(threshold) - 7:.1f}" '
        f'text-anchor="end">threshold {threshold:.2f}</text>'
    )
    for moment in moments:
        if moment.score is not None:
            parts.append(_mark(moment, x(moment.at_s), y(moment.score)))
    for moment in moments:
        if moment.verdict is not Verdict.WAIT:
            parts.append(_event(moment, x(moment.at_s), band_top - 6))
    summary = "; ".join(_spoken(visit) for visit in result.visits)
    return _svg(_WIDTH, 326, "Timeline of the door", summary, parts)


def histogram_svg(
    non_mated: NDArray[np.float32],
    rows: Sequence[tuple[str, str, Sequence[float]]],
    threshold: float,
) -> str:
    """The cohort's scores as a hill, the threshold as a line, and rows of single scores below.

    rows: label, class ('enrolled', 'stranger', 'unknown', 'reference') and scores of each.
    """
    values = [float(v) for _, _, scores in rows for v in scores]
    low = min(-0.3, float(non_mated.min()), *values, threshold - 0.1)
    left, top, bottom = 20, 26, 190
    width = _WIDTH - left - _RIGHT

    def x(score: float) -> float:
        return left + width * (score - low) / (1.02 - low)

    counts, edges = np.histogram(non_mated, bins=np.linspace(low, 1.02, 110))
    peak = max(1, int(counts.max()))
    hill = [f"M{x(float(edges[0])):.1f},{bottom}"]
    for count, begin, until in zip(counts, edges[:-1], edges[1:], strict=True):
        level = bottom - (bottom - top - 8) * count / peak
        hill.append(f"L{x(float(begin)):.1f},{level:.1f}L{x(float(until)):.1f},{level:.1f}")
    hill.append(f"L{x(float(edges[-1])):.1f},{bottom}Z")
    middle = float(np.median(non_mated))
    foot = bottom + 22 + 34 * len(rows)
    parts = [
        f'<path class="hill" d="{"".join(hill)}"/>',
        f'<line class="axis" x1="{left}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>',
        (
            f'<text class="label" x="{x(middle):.1f}" y="{top - 8}" text-anchor="middle">'
            f"{len(non_mated):,} comparisons with strangers</text>"
        ),
    ]
    for number, (label, kind, scores) in enumerate(rows):
        y = bottom + 40 + 34 * number
        parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="label row" x="{left}" y="{y - 8}">{escape(label)}</text>')
        parts.extend(_shape(kind, x(float(score)), y, f"{score:.3f}") for score in scores)
    parts.append(
        f'<line class="threshold" x1="{x(threshold):.1f}" x2="{x(threshold):.1f}" '
        f'y1="{top - 4}" y2="{foot}"/>'
        f'<text class="threshold-label" x="{x(threshold) + 8:.1f}" y="{top + 8}">'
        f"threshold {threshold:.2f} · a match from here on</text>"
    )
    for tick in range(int(np.ceil(low * 5)), 6):
        parts.append(
            f'<text class="tick" x="{x(tick / 5):.1f}" y="{foot + 16}" text-anchor="middle">'
            f"{_signed(tick / 5)}</text>"
        )
    return _svg(
        _WIDTH, foot + 26, "Scores and the threshold",
        f"{int((non_mated >= threshold).sum())} of {len(non_mated)} comparisons with strangers "
        f"reach the threshold of {threshold:.2f}",
        parts,
    )  # fmt: skip


def _frame(
    x: Callable[[float], float],
    y: Callable[[float], float],
    start_s: float,
    end_s: float,
    top: float,
    bottom: float,
) -> str:
    """Grid, axes and their figures."""
    lines = []
    for score in (0.0, 0.25, 0.5, 0.75, 1.0):
        lines.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(score):.1f}" '
            f'y2="{y(score):.1f}"/><text class="tick" x="{_LEFT - 10}" y="{y(score) + 4:.1f}" '
            f'text-anchor="end">{score:.2f}</text>'
        )
    step = next(s for s in (1, 2, 5, 10, 30, 60, 300, 3600) if (end_s - start_s) / s <= 16)
    for second in range(0, int(end_s - start_s) + 1, step):
        lines.append(
            f'<text class="tick" x="{x(start_s + second):.1f}" y="{bottom + 20}" '
            f'text-anchor="middle">{second} s</text>'
        )
    lines.append(
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>'
        f'<text class="label" x="{_LEFT}" y="{top - 10}">score</text>'
    )
    return "".join(lines)


def _band(visit: VisitSummary, begin: float, until: float, top: float, height: float) -> str:
    """Who stood there."""
    kind = _PRESENCE[visit.presence]
    width = max(2.0, until - begin)
    label = visit.name or kind
    if len(label) * 6.8 > width - 8:
        label = label[: max(0, int((width - 20) / 6.8))].rstrip() + "…" if width > 40 else ""
    return (
        f'<rect class="band {kind}" x="{begin:.1f}" y="{top}" width="{width:.1f}" '
        f'height="{height}" rx="5"><title>{escape(_spoken(visit))}</title></rect>'
        f'<text class="band-label {kind}" x="{begin + width / 2:.1f}" '
        f'y="{top + height / 2 + 4.5:.1f}" text-anchor="middle">{escape(label)}</text>'
    )


def _mark(moment: Moment, x: float, y: float) -> str:
    who = moment.truth.name or _PRESENCE[moment.truth.presence]
    score = f"{moment.score:.3f}" if moment.score is not None else "none"
    note = f"{moment.at_s:.1f} s, {who}, {moment.truth.conditions}, score {score}"
    return _shape(_PRESENCE[moment.truth.presence], x, y, note)


def _shape(kind: str, x: float, y: float, note: str) -> str:
    """Discs for the enrolled, diamonds for strangers: to be told apart without colours, too."""
    title = f"<title>{escape(note)}</title>"
    if kind == "stranger":
        return (
            f'<path class="dot stranger" d="M{x:.1f},{y - 4.6:.1f}l4.6,4.6l-4.6,4.6l-4.6,-4.6z">'
            f"{title}</path>"
        )
    return f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.6">{title}</circle>'


def _event(moment: Moment, x: float, y: float) -> str:
    word, kind = ("opens", "open") if moment.verdict is Verdict.OPEN else ("refuses", "refuse")
    return (
        f'<path class="event {kind}" d="M{x:.1f},{y + 4:.1f}l-4,-6h8z"/>'
        f'<text class="event {kind}" x="{x + 8:.1f}" y="{y + 2:.1f}">{word}</text>'
    )


def _spoken(visit: VisitSummary) -> str:
    who = visit.name or _PRESENCE[visit.presence]
    if visit.presence is Presence.NOBODY and not visit.opened:
        return f"nobody from {visit.from_s:.1f} s to {visit.until_s:.1f} s"
    did = "the door opened" if visit.opened else "the door stayed shut"
    return f"{who} from {visit.from_s:.1f} s to {visit.until_s:.1f} s, {did}"


def _signed(value: float) -> str:
    return f"{value:.1f}".replace("-0.0", "0.0").replace("-", "\u2212")


def _svg(width: int, height: float, title: str, description: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}: {escape(description)}">{"".join(parts)}</svg>'
    )
