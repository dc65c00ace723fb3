"""The report's three drawings: scores and threshold, FNMR against FMR, FPIR by gallery size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limen.calibration.identification import SizedRate
from limen.calibration.plain_words import one_in, rate_in_words
from limen.device.report.findings import Det, Findings
from limen.device.report.svg import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Frame,
    decades,
    drawing,
    even_ticks,
    line,
    linear,
    logarithmic,
    nice_ceiling,
    path,
    share,
    text,
    x_axis,
    y_axis,
)

_BINS = 70
DOTS_UP_TO = 60  # so few own scores are shown one by one


def scores_svg(found: Findings) -> str:
    """Strangers' scores as a hill, people's own as another or as dots, the threshold between."""
    threshold = found.point.threshold
    low = float(min(found.non_mated.min(), found.mated.min() if len(found.mated) else 1, threshold))
    low, high = np.floor(low * 5) / 5, 1.0
    frame = Frame(linear(low, high, LEFT, WIDTH - RIGHT), linear(0, 1.12, BOTTOM, TOP))
    edges = np.linspace(low, high, _BINS + 1)
    parts = x_axis(
        frame,
        [(v, f"{v:.1f}") for v in np.arange(np.ceil(low * 5), 5.01) / 5],
        "score: how alike two faces are",
        grid=False,
    )
    at = frame.x(threshold)
    parts.append(
        f'<rect class="passes" x="{at:.1f}" y="{TOP}" width="{WIDTH - RIGHT - at:.1f}" '
        f'height="{BOTTOM - TOP}"/>'
    )
    parts.append(_hill("strangers", found.non_mated, edges, frame))
    alone = len(found.mated) <= DOTS_UP_TO
    if len(found.mated) and not alone:
        parts.append(_hill("own", found.mated, edges, frame))
    elif len(found.mated):
        parts.append(_dots(found.mated, frame))
    parts.append(line("threshold", at, TOP - 10, at, BOTTOM))
    parts.append(text("threshold-label", at, TOP - 20, f"threshold {threshold:.2f}", "middle"))
    matched = int((found.non_mated >= threshold).sum())
    missed = int((found.mated < threshold).sum())
    summary = (
        f"{matched} of {len(found.non_mated)} comparisons with strangers reach the threshold "
        f"{threshold:.2f}; {missed} of {len(found.mated)} own pictures stay below it"
    )
    parts.append(
        text(
            "strangers-label",
            frame.x(float(np.median(found.non_mated))),
            TOP + 8,
            "strangers",
            "middle",
        )
    )
    if len(found.mated):
        middle = frame.x(float(np.median(found.mated)))
        height = TOP + 8 if not alone else BOTTOM - _dot_rows(found.mated, frame) * 13 - 20
        parts.append(text("own-label", max(middle, at + 70), height, "the same person", "middle"))
    return drawing("Scores and the threshold", summary, parts)


def _hill(css: str, values: NDArray[np.float32], edges: NDArray[np.float64], frame: Frame) -> str:
    counts = np.histogram(values, edges)[0].astype(np.float64)
    heights = counts / max(counts.max(), 1)
    points = [(frame.x(float(edges[0])), float(BOTTOM))]
    for height, start, end in zip(heights, edges[:-1], edges[1:], strict=True):
        points.append((frame.x(float(start + end) / 2), frame.y(float(height) * 0.92)))
    points.append((frame.x(float(edges[-1])), float(BOTTOM)))
    return path(f"hill {css}", points, close=True)


def _dots(values: NDArray[np.float32], frame: Frame) -> str:
    taken: dict[int, int] = {}
    parts = []
    for value in np.sort(values).tolist():
        column = round(frame.x(value) / 12)
        row = taken.get(column, 0)
        taken[column] = row + 1
        parts.append(
            f'<circle class="dot own" cx="{column * 12}" cy="{BOTTOM - 9 - row * 13}" r="5"/>'
        )
    return "".join(parts)


def _dot_rows(values: NDArray[np.float32], frame: Frame) -> int:
    columns = [round(frame.x(value) / 12) for value in values.tolist()]
    return max(columns.count(column) for column in columns)


def det_svg(det: Det, found: Findings) -> str:
    """What another threshold would cost: own pictures missed, against strangers who match."""
    point = found.point
    here = float((found.mated < point.threshold).mean())
    low, high = float(det.fmr[0]), float(det.fmr[-1])
    ticks = even_ticks(min(1.0, max(float(det.high.max()), here, 0.02)))
    # Left is looser: who moves right buys strictness.
    frame = Frame(
        logarithmic(low, high, WIDTH - RIGHT, LEFT),
        linear(0, ticks[-1], BOTTOM, TOP),
    )
    parts = y_axis(frame, [(value, share(value)) for value in ticks], "own pictures missed")
    parts += x_axis(
        frame,
        [(v, one_in(1 / v)) for v in decades(low, high)],
        "strangers who match one person (stricter to the right)",
    )
    band = [(frame.x(f), frame.y(v)) for f, v in zip(det.fmr, det.low, strict=True)]
    band += [(frame.x(f), frame.y(v)) for f, v in zip(det.fmr[::-1], det.high[::-1], strict=True)]
    parts.append(path("band", band, close=True))
    parts.append(
        path("curve", [(frame.x(f), frame.y(v)) for f, v in zip(det.fmr, det.fnmr, strict=True)])
    )
    at = (frame.x(max(point.fmr, low)), frame.y(here))
    parts.append(
        line(
            "threshold", frame.x(point.fmr_upper_bound), TOP, frame.x(point.fmr_upper_bound), BOTTOM
        )
    )
    bound_label = f"at most {rate_in_words(point.fmr_upper_bound)}"
    left = frame.x(point.fmr_upper_bound) > WIDTH / 2
    parts.append(
        text(
            "threshold-label", frame.x(point.fmr_upper_bound) + (-8 if left else 8), TOP + 12,
            bound_label, "end" if left else "start",
        )
    )  # fmt: skip
    parts.append(f'<circle class="here" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="6"/>')
    summary = (
        f"at the threshold, {share(round(here, 3))} of own pictures are missed and "
        f"{point.fmr:.2g} of strangers' comparisons match, at most {point.fmr_upper_bound:.2g}"
    )
    return drawing("What another threshold would cost", summary, parts)


def growth_svg(sizes: Sequence[SizedRate], people: int) -> str:
    """Strangers who match anybody, as people are added, at the same threshold."""
    ticks = even_ticks(max(max(row.fpir_upper_bound, row.independent) for row in sizes))
    last = max(row.subjects for row in sizes)
    frame = Frame(linear(0, last, LEFT, WIDTH - RIGHT), linear(0, ticks[-1], BOTTOM, TOP))
    parts = y_axis(frame, [(value, share(value)) for value in ticks], "strangers who match anybody")
    step = nice_ceiling(last / 5)
    step = max(1.0, float(round(step)))
    parts += x_axis(
        frame,
        [(k * step, f"{k * step:.0f}") for k in range(1, int(last / step) + 1)],
        "people enrolled",
        grid=False,
    )
    rising = sorted(sizes, key=lambda row: row.subjects)
    corner = [(frame.x(0), frame.y(0))]
    upper = [(frame.x(r.subjects), frame.y(r.fpir_upper_bound)) for r in rising]
    lower = [(frame.x(r.subjects), frame.y(r.fpir)) for r in rising]
    parts.append(path("band", [*corner, *upper, *lower[::-1]], close=True))
    parts.append(
        path(
            "independent", corner + [(frame.x(r.subjects), frame.y(r.independent)) for r in rising]
        )
    )
    parts.append(path("curve", corner + lower))
    parts.extend(f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in lower)
    now = next((row for row in rising if row.subjects == people), None)
    if now is not None:
        at = frame.x(people)
        parts.append(line("threshold", at, TOP, at, BOTTOM))
        parts.append(text("threshold-label", at + 8, TOP + 12, f"now: {people}"))
        parts.append(f'<circle class="here" cx="{at:.1f}" cy="{frame.y(now.fpir):.1f}" r="6"/>')
    summary = "; ".join(
        f"{r.subjects} people: {r.fpir:.2%}, at most {r.fpir_upper_bound:.2%}" for r in rising
    )
    return drawing("As people are added", summary, parts)
