"""The verbs calibrate and recalibrate: the door's threshold, with its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli.options import (
    BundleOption,
    DryRunOption,
    GalleryOption,
    JsonOption,
    PrecisionOption,
    RuntimeOption,
    YuNetOption,
    gallery_path,
    open_gallery,
    open_recognition,
)
from limen.cli.output import EXIT_NO, note, now_utc, percent, print_table, say, say_json

if TYPE_CHECKING:
    from limen.bundle import Bundle
    from limen.calibration.operating_point import OperatingPoint
    from limen.device.calibration import Calibration, Wish
    from limen.device.gallery import Gallery

WHAT_IF_SEED = 1


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(calibrate)
    app.command()(recalibrate)


def calibrate(
    max_fmr: Annotated[
        float, typer.Option(help="At most this share of strangers' comparisons may match.")
    ] = 1e-3,
    confidence: Annotated[float, typer.Option(help="How sure the bound is.")] = 0.95,
    max_fpir: Annotated[
        float | None,
        typer.Option(help="At most this share of strangers may match anybody of the gallery."),
    ] = None,
    probe_frames: Annotated[
        int, typer.Option(min=1, max=100, help="Frames that the door fuses into one probe.")
    ] = 1,
    below_floor: Annotated[
        bool, typer.Option(help="Allow a threshold below the bundle's lowest.")
    ] = False,
    accept_lookalikes: Annotated[
        bool, typer.Option(help="Two subjects as alike as one person are two people.")
    ] = False,
    what_if: Annotated[
        int | None,
        typer.Option(min=1, help="Also tell the FPIR of galleries of up to so many people."),
    ] = None,
    dry_run: DryRunOption = False,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Find the door's threshold, from its own gallery and the bundle's strangers."""
    from limen.device.calibration import Wish

    wish = Wish(
        max_fmr=max_fmr,
        confidence=confidence,
        max_fpir=max_fpir,
        probe_frames=probe_frames,
        below_floor=below_floor,
        accept_lookalikes=accept_lookalikes,
    )
    ready = open_recognition(bundle, runtime, precision, yunet, gallery_path(gallery))
    with open_gallery(gallery, model_id=ready.embedder.model_id, need="calibrate") as opened:
        _calibrate(opened, ready.bundle, wish, what_if=what_if, keep=not dry_run, json=json)


def recalibrate(
    if_stale: Annotated[
        bool, typer.Option(help="Only where people were added or removed since.")
    ] = False,
    step_back: Annotated[
        bool, typer.Option(help="Put the operating point before this one back in force.")
    ] = False,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Calibrate again as the last time was asked for, or go one step back."""
    from limen.device.calibration import require_operating_point, same_wish

    ready = open_recognition(bundle, runtime, precision, yunet, gallery_path(gallery))
    with open_gallery(gallery, model_id=ready.embedder.model_id, need="calibrate") as opened:
        before = require_operating_point(opened)
        if step_back:
            point = opened.step_back()
            if json:
                say_json({"stepped_back": True, **point.model_dump(mode="json")})
            else:
                _tell(point)
                note(f"back in force: the operating point of {point.calibrated_at}")
            if opened.calibration_is_stale():
                note("it was calibrated before people were added or removed")
            return
        if if_stale and not opened.calibration_is_stale():
            if json:
                say_json({"calibrated": False, "reason": "nothing has changed", "stale": False})
            else:
                say(f"nothing has changed since {before.calibrated_at}: the threshold stays")
            return
        _calibrate(opened, ready.bundle, same_wish(before), what_if=None, keep=True, json=json)


def _calibrate(
    gallery: Gallery, bundle: Bundle, wish: Wish, *, what_if: int | None, keep: bool, json: bool
) -> None:
    import numpy as np

    from limen.calibration.calibrate import InsufficientEvidenceError
    from limen.calibration.enrolment_faults import EnrolmentFaultError
    from limen.device.calibration import (
        find_operating_point,
        gallery_menagerie,
        keep_calibration,
        sized_rates,
    )
    from limen.errors import CalibrationError

    try:
        found = find_operating_point(gallery, bundle, wish, calibrated_at=now_utc())
    except InsufficientEvidenceError as error:
        _refuse(error, json)
        raise typer.Exit(EXIT_NO) from error
    except EnrolmentFaultError as error:
        who = " and ".join(f"'{name}'" for name in error.subject_ids)
        raise CalibrationError(f"{who}: {error}; the old operating point stays") from error
    sizes = sized_rates(found, what_if, np.random.default_rng(WHAT_IF_SEED)) if what_if else []
    animals = _named(found, gallery_menagerie(found))
    if keep:
        keep_calibration(gallery, found)
    if json:
        say_json(
            {
                "calibrated": True,
                "kept": keep,
                **found.point.model_dump(mode="json"),
                "what_if": [
                    {
                        "subjects": row.subjects,
                        "fpir": row.fpir,
                        "fpir_upper_bound": row.fpir_upper_bound,
                        "fpir_if_independent": row.independent,
                        "threshold_for_the_present_fpir": row.threshold_kept,
                    }
                    for row in sizes
                ],
                "advice": animals,
            }
        )
        return
    _tell(found.point)
    if sizes:
        _tell_sizes(found, sizes)
    for line in found.point.notes:
        note(line)
    for row in animals:
        note(f"{' and '.join(row['subjects'])}: {row['advice']}")
    if not keep:
        note("a dry run: the old operating point stays")


def _refuse(error: Any, json: bool) -> None:
    if json:
        say_json(
            {
                "calibrated": False,
                "reason": str(error),
                "rate": error.kind,
                "strongest_max_fmr": error.strongest_max_fmr if error.kind == "fmr" else None,
                "strongest_max_fpir": error.strongest_max_fmr if error.kind == "fpir" else None,
                "missing_comparisons": error.missing_comparisons,
                "missing_strangers": error.missing_strangers,
            }
        )
    else:
        say(f"not calibrated, the old operating point stays: {error}")


def _named(found: Calibration, animals: Any) -> list[dict[str, Any]]:
    """What to do about whom; for the owner, who asked."""
    from limen.calibration.menagerie import advice, pair_advice

    names = found.references.subject_ids
    rows = [
        {"subjects": [names[pair.first], names[pair.second]], "advice": pair_advice(pair)}
        for pair in animals.lookalikes
    ]
    for figures in animals.subjects:
        sentence = advice(figures)
        if sentence is not None:
            rows.append({"subjects": [names[figures.number]], "advice": sentence})
    return rows


def _tell_sizes(found: Calibration, sizes: Any) -> None:
    print_table(
        "if the gallery grew, at this threshold",
        ["people", "strangers who match anybody", "at most", "if independent", "threshold to hold"],
        [
            [
                f"{row.subjects}{' (now)' if row.subjects == found.point.enrolled_subjects else ''}",
                percent(row.fpir),
                percent(row.fpir_upper_bound),
                percent(row.independent),
                f"{row.threshold_kept:.3f}",
            ]
            for row in sizes
        ],
    )


def _tell(point: OperatingPoint) -> None:
    interval = point.fnmr_interval
    effective = point.effective_comparisons
    rows = [
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
    if point.fpir is not None and point.fpir_upper_bound is not None:
        rows.insert(
            2,
            [
                "strangers who match anybody (FPIR)",
                f"{percent(point.fpir)}, at most {percent(point.fpir_upper_bound)}",
            ],
        )
    if effective is not None:
        rows.append(["as good as independent", f"{effective:,.0f} comparisons"])
    print_table("operating point", ["", "value"], rows)
