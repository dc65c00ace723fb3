"""Small drawings as inline SVG: scales, axes, marks. Colours come from the page, by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

Scale = Callable[[float], float]

WIDTH, HEIGHT = 760, 346
LEFT, RIGHT, TOP, BOTTOM = 76, 22, 46, 288


@dataclass(frozen=True, slots=True)
class Frame:
    """A plot's scales, from values to pixels."""

    x: Scale
    y: Scale


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """From low..high to start..end, cut off at the ends."""
    width = (high - low) or 1.0
    return lambda value: start + (end - start) * min(1.0, max(0.0, (value - low) / width))


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """As `linear`, over the logarithm; low > 0."""
    inner = linear(math.log(low), math.log(high), start, end)
    return lambda value: inner(math.log(max(value, low)))


def decades(low: float, high: float) -> list[float]:
    """Powers of ten within low..high."""
    return [
        10.0**k
        for k in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    ]


def drawing(title: str, summary: str, parts: Iterable[str], height: int = HEIGHT) -> str:
    """The whole drawing; title and summary are read aloud to whoever cannot see it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}: '
        f'{escape(summary)}">{"".join(parts)}</svg>'
    )


def line(css: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line."""
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(css: str, x: float, y: float, words: str, anchor: str = "start") -> str:
    """A text; the words are escaped here."""
    return (
        f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def path(css: str, points: Sequence[tuple[float, float]], close: bool = False) -> str:
    """A line through points, or an area."""
    joined = "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<path class="{css}" d="M{joined}{"Z" if close else ""}"/>'


def x_axis(
    frame: Frame, ticks: Iterable[tuple[float, str]], label: str, grid: bool = True
) -> list[str]:
    """Ticks below the plot, with grid lines, and the axis' name."""
    parts = []
    for value, words in ticks:
        at = frame.x(value)
        if grid:
            parts.append(line("grid", at, TOP, at, BOTTOM))
        parts.append(text("tick", at, BOTTOM + 22, words, "middle"))
    parts.append(line("axis", LEFT, BOTTOM, WIDTH - RIGHT, BOTTOM))
    parts.append(text("label", (LEFT + WIDTH - RIGHT) / 2, BOTTOM + 48, label, "middle"))
    return parts


def y_axis(frame: Frame, ticks: Iterable[tuple[float, str]], label: str) -> list[str]:
    """Ticks left of the plot, with grid lines; the axis' name stands above it."""
    parts = [text("label", 0, TOP - 24, label)]
    for value, words in ticks:
        at = frame.y(value)
        parts.append(line("grid", LEFT, at, WIDTH - RIGHT, at))
        parts.append(text("tick", LEFT - 9, at + 4, words, "end"))
    return parts


def nice_ceiling(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten, at or above a value above 0."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def even_ticks(highest: float) -> list[float]:
    """From 0 in even steps of 1, 2, 2.5 or 5 times a power of ten, the last at or above `highest`."""
    step = nice_ceiling(highest / 5)
    return [step * k for k in range(math.ceil(highest / step - 1e-9) + 1)]


def share(value: float) -> str:
    """A share on an axis: 0.5%, 20%."""
    return f"{100 * value:.3g}%"
