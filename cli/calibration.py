"""The verb calibrate: the door's threshold, with its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.options import (
    BundleOption,
    GalleryOption,
    JsonOption,
    PrecisionOption,
    RuntimeOption,
    YuNetOption,
    open_gallery,
    open_recognition,
)
from limen.cli.output import EXIT_NO, now_utc, percent, print_table, say, say_json

if TYPE_CHECKING:
    from limen.calibration.operating_point import OperatingPoint


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(calibrate)


def calibrate(
    max_fmr: Annotated[
        float, typer.Option(help="At most this share of strangers' comparisons may match.")
    ] = 1e-3,
    confidence: Annotated[float, typer.Option(help="How sure the bound is.")] = 0.95,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Find the door's threshold, from its own gallery and the bundle's strangers."""
    from limen.calibration.calibrate import InsufficientEvidenceError
    from limen.device.calibration import calibrate_gallery

    ready = open_recognition(bundle, runtime, precision, yunet)
    with open_gallery(gallery, model_id=ready.embedder.model_id, need="calibrate") as opened:
        try:
            point = calibrate_gallery(
                opened,
                ready.bundle,
                max_fmr=max_fmr,
                confidence=confidence,
                calibrated_at=now_utc(),
            )
        except InsufficientEvidenceError as error:
            if json:
                say_json(
                    {
                        "calibrated": False,
                        "reason": str(error),
                        "strongest_max_fmr": error.strongest_max_fmr,
                    }
                )
            else:
                say(f"not calibrated, the old operating point stays: {error}")
            raise typer.Exit(EXIT_NO) from error
    if json:
        say_json({"calibrated": True, **point.model_dump(mode="json")})
        return
    print_table("operating point", ["", "value"], _rows(point))


def _rows(point: OperatingPoint) -> list[list[str]]:
    interval = point.fnmr_interval
    return [
        ["threshold (cosine)", f"{point.threshold:.4f}"],
        [
            "false match rate of strangers (FMR)",
            (
                f"{percent(point.fmr, 3)}, at most {percent(point.fmr_upper_bound, 3)} "
                f"with {point.confidence:.0%} confidence"
            ),
        ],
        [
            "false non-match rate (FNMR)",
            f"{percent(point.fnmr, 1)}, between {percent(interval[0], 1)} and {percent(interval[1], 1)}"
            if interval
            else "not measured: enrol two or more shots of somebody",
        ],
        [
            "non-mated, mated comparisons",
            f"{point.non_mated_comparisons}, {point.mated_comparisons}",
        ],
        ["enrolled subjects, strangers", f"{point.enrolled_subjects}, {point.cohort_subjects}"],
    ]
