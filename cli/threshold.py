"""The verb threshold: the operating point in force, its history, and whether it still holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.options import GalleryOption, JsonOption, open_gallery
from limen.cli.output import EXIT_NO, note, print_table, say_json
from limen.cli.point_tables import tell_point

if TYPE_CHECKING:
    from limen.calibration.operating_point import OperatingPoint

HISTORY = ["calibrated at", "model", "threshold", "by light", "FMR", "people"]


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(threshold)


def threshold(
    history: Annotated[bool, typer.Option(help="Every point that was ever kept.")] = False,
    gallery: GalleryOption = None,
    json: JsonOption = False,
) -> None:
    """Show the operating point in force, or all of them; exit 1 where it is due to be found again."""
    from limen.device.calibration import require_operating_point
    from limen.device.drift_monitor import drift_reasons

    with open_gallery(gallery) as opened:
        point = require_operating_point(opened)
        points = opened.operating_points() if history else [point]
        stale, drifted = opened.calibration_is_stale(), drift_reasons(opened)
    reasons = ["people were added or removed since"] if stale else []
    reasons += [f"drift: {reason}" for reason in drifted]
    if json:
        told = {"recalibrate": reasons, **point.model_dump(mode="json")}
        if history:
            told["history"] = [each.model_dump(mode="json") for each in points]
        say_json(told)
    elif history:
        print_table("operating points, oldest first", HISTORY, [_history_row(p) for p in points])
    else:
        tell_point(point)
    for line in () if json else point.notes:
        note(line)
    for reason in reasons:
        note(f"recalibrate: {reason}")
    if reasons:
        raise typer.Exit(EXIT_NO)


def _history_row(point: OperatingPoint) -> list[str]:
    by_light = ", ".join(f"{p.condition.value} {p.threshold:.4f}" for p in point.conditions)
    return [
        point.calibrated_at,
        point.model_id[:8],
        f"{point.threshold:.4f}",
        by_light or "–",
        f"{point.max_fmr:g}",
        str(point.enrolled_subjects),
    ]
