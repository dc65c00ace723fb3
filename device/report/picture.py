"""The report as one sheet, PNG or PDF, drawn with matplotlib from the same findings."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from limen.calibration.plain_words import one_in
from limen.device.report import words
from limen.device.report.charts import DOTS_UP_TO
from limen.device.report.findings import Findings
from limen.device.report.svg import decades

_INK, _SOFT, _LINE = "#20272b", "#5b656b", "#e3dfd6"
_KNOWN, _KNOWN_SOFT, _HILL, _MARK = "#2b7057", "#d5e7de", "#c3c8c6", "#8a6410"
_DPI = 160
_LINES = 8  # that fit below


def render_picture(found: Findings, kind: str) -> bytes:
    """A sheet of A4; kind: 'png' or 'pdf'. ImportError without matplotlib.

    It holds no names: a picture is passed on more easily than meant.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(8.27, 11.69), facecolor="white")
    FigureCanvasAgg(sheet)
    point = found.point
    sheet.text(0.08, 0.955, f"limen · how often this door is wrong · {point.calibrated_at[:10]}",
               fontsize=8.5, color=_SOFT)  # fmt: skip
    sheet.text(0.08, 0.94, _wrapped(words.headline(point), 44), fontsize=19, family="serif",
               color=_INK, va="top", linespacing=1.25)  # fmt: skip
    sheet.text(0.08, 0.868, _wrapped(words.lead(found), 104), fontsize=9, color=_SOFT, va="top",
               linespacing=1.5)  # fmt: skip
    for place, (label, value, below) in enumerate(words.figures(point)[:4]):
        left = 0.08 + 0.215 * place
        sheet.text(left, 0.79, _wrapped(label, 24), fontsize=8, color=_SOFT, va="top")
        sheet.text(left, 0.752, value, fontsize=15, family="serif", color=_INK, va="top")
        sheet.text(left, 0.728, _wrapped(below, 28), fontsize=7.5, color=_SOFT, va="top")
    _scores(sheet.add_axes((0.08, 0.46, 0.84, 0.2)), found)
    if found.det is not None:
        _trade(sheet.add_axes((0.12, 0.225, 0.34, 0.165)), found)
    if found.sizes:
        _growth(sheet.add_axes((0.58, 0.225, 0.34, 0.165)), found)
    sheet.text(0.08, 0.163, "What is not known", fontsize=11, family="serif", color=_INK)
    lines = [
        row
        for text in words.not_known(found)
        for row in _wrapped(f"• {text}", 118, "   ").split("\n")
    ]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], "• More of this in the page and in JSON."]
    unknown = "\n".join(lines)
    sheet.text(0.08, 0.153, unknown, fontsize=8, color=_SOFT, va="top", linespacing=1.5)
    target = io.BytesIO()
    sheet.savefig(
        target, format=kind, dpi=_DPI, metadata={"Creator": None} if kind == "pdf" else None
    )
    return target.getvalue()


def _scores(axes: Any, found: Findings) -> None:
    threshold = found.point.threshold
    low = float(min(found.non_mated.min(), found.mated.min() if len(found.mated) else 1, threshold))
    edges = np.linspace(np.floor(low * 5) / 5, 1, 71)
    middle = (edges[:-1] + edges[1:]) / 2
    hills = [(found.non_mated, _HILL, 1.0)]
    if len(found.mated) > DOTS_UP_TO:
        hills.append((found.mated, _KNOWN, 0.5))
    for values, colour, alpha in hills:
        counts = np.histogram(values, edges)[0]
        axes.fill_between(middle, counts / max(counts.max(), 1), color=colour, alpha=alpha, lw=0)
    if len(found.mated) <= DOTS_UP_TO:  # one by one, stacked
        column = np.sort(np.digitize(found.mated, edges[1:-1]))
        height = np.arange(len(column)) - np.searchsorted(column, column)
        axes.plot(middle[column], 0.05 + 0.075 * height, "o", color=_KNOWN, ms=4.5)
    axes.axvline(threshold, color=_MARK, ls="--", lw=1.2)
    axes.set_xlim(edges[0], 1)
    axes.set_ylim(0, 1.1)
    axes.set_yticks([])
    axes.set_title("Strangers (grey), the same person (green), and the threshold", **_title())
    axes.set_xlabel("score: how alike two faces are", fontsize=8, color=_SOFT)
    axes.text(threshold + 0.01, 1.03, f"{threshold:.2f}", color=_MARK, fontsize=8)
    _quiet(axes)


def _trade(axes: Any, found: Findings) -> None:
    det, point = found.det, found.point
    if det is None:
        return
    axes.fill_between(det.fmr, 100 * det.low, 100 * det.high, color=_KNOWN_SOFT, lw=0)
    axes.plot(det.fmr, 100 * det.fnmr, color=_KNOWN, lw=1.6)
    here = float((found.mated < point.threshold).mean())
    axes.axvline(point.fmr_upper_bound, color=_MARK, ls="--", lw=1)
    axes.plot([max(point.fmr, det.fmr[0])], [100 * here], "o", color=_MARK, ms=5)
    axes.set_xscale("log")
    axes.set_xlim(det.fmr[-1], det.fmr[0])
    axes.set_ylim(0)
    ticks = decades(float(det.fmr[0]), float(det.fmr[-1]))
    axes.set_xticks(ticks, [one_in(1 / tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_title("What another threshold would cost", **_title())
    axes.set_xlabel("strangers who match one person", fontsize=8, color=_SOFT)
    axes.set_ylabel("own pictures missed, %", fontsize=8, color=_SOFT)
    _quiet(axes)


def _growth(axes: Any, found: Findings) -> None:
    people = [row.subjects for row in found.sizes]
    axes.fill_between(people, [100 * row.fpir for row in found.sizes],
                      [100 * row.fpir_upper_bound for row in found.sizes], color=_KNOWN_SOFT, lw=0)  # fmt: skip
    axes.plot(people, [100 * row.fpir for row in found.sizes], "o-", color=_KNOWN, lw=1.6, ms=3)
    axes.plot(people, [100 * row.independent for row in found.sizes], ":", color=_SOFT, lw=1)
    axes.axvline(found.point.enrolled_subjects, color=_MARK, ls="--", lw=1)
    axes.set_ylim(0)
    axes.set_title("As people are added", **_title())
    axes.set_xlabel("people enrolled", fontsize=8, color=_SOFT)
    axes.set_ylabel("strangers who match anybody, %", fontsize=8, color=_SOFT)
    _quiet(axes)


def _title() -> dict[str, Any]:
    return {"fontsize": 10, "family": "serif", "color": _INK, "loc": "left", "pad": 12}


def _quiet(axes: Any) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_SOFT)
    axes.tick_params(labelsize=7.5, colors=_SOFT, length=0)
    axes.grid(axis="y", color=_LINE, lw=0.7)
    axes.set_axisbelow(True)


def _wrapped(sentence: str, width: int, indent: str = "") -> str:
    import textwrap

    return "\n".join(textwrap.wrap(sentence, width, subsequent_indent=indent))
