"""The verbs calibrate and recalibrate: the door's threshold, with its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli.guided import take_visits
from limen.cli.options import (
    BundleOption,
    DryRunOption,
    GalleryOption,
    JsonOption,
    PrecisionOption,
    Recognition,
    RuntimeOption,
    YuNetOption,
    gallery_path,
    open_gallery,
    open_recognition,
)
from limen.cli.output import EXIT_NO, note, now_utc, say, say_json
from limen.cli.point_tables import tell_point, tell_sizes
from limen.cli.report import check_files, findings_of, write_reports

if TYPE_CHECKING:
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
    by_light: Annotated[
        bool, typer.Option(help="Also a threshold by day and by night, from guided visits.")
    ] = False,
    what_if: Annotated[
        int | None,
        typer.Option(min=1, help="Also tell the FPIR of galleries of up to so many people."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="A door's file: its gallery, votes and smallest face."),
    ] = None,
    time_limit_s: Annotated[
        float, typer.Option(min=0.1, max=120, help="How long a visitor tries, for FAR and FRR.")
    ] = 10.0,
    guided: Annotated[
        bool, typer.Option(help="First, people of the gallery walk up to the camera.")
    ] = False,
    source: Annotated[
        str | None, typer.Option(help="The camera of --guided; the door's file's, or camera.")
    ] = None,
    visits: Annotated[
        Path | None, typer.Option(help="Recorded visits instead: SUBJECT/ with a session each.")
    ] = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(help="Also write what was found: FILE.html, FILE.png or FILE.pdf; repeated."),
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
    from limen.calibration.transactions import TransactionRule, Votes
    from limen.device.calibration import Wish
    from limen.device.config import DoorConfig, load_config
    from limen.device.guided import VisitPolicy

    check_files(report or [])
    door = load_config(config) if config else DoorConfig()
    wish = Wish(
        max_fmr=max_fmr,
        confidence=confidence,
        max_fpir=max_fpir,
        probe_frames=probe_frames,
        below_floor=below_floor,
        accept_lookalikes=accept_lookalikes,
        by_light=by_light,
        rule=TransactionRule(Votes(door.votes, door.window), time_limit_s),
    )
    where = door.gallery if config and gallery is None else gallery_path(gallery)
    ready = open_recognition(
        bundle or door.bundle,
        runtime or door.runtime,
        precision or door.precision,
        yunet or door.yunet,
        where,
    )
    with open_gallery(
        where, model_id=ready.embedder.model_id, key=door.key, need="calibrate"
    ) as opened:
        if guided or visits is not None:
            policy = VisitPolicy(
                probe_frames, door.min_quality, door.min_face_px, seconds=time_limit_s
            )
            take_visits(opened, ready, policy, source=source or door.source, recorded=visits)
        found = _calibrate(opened, ready, wish, what_if=what_if, keep=not dry_run, json=json)
        if report:
            write_reports(report, findings_of(found, ready.bundle, names=False))


def recalibrate(
    if_stale: Annotated[
        bool,
        typer.Option(help="Only where people were added or removed since, or the door drifted."),
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
    from limen.device.drift_monitor import drift_reasons

    ready = open_recognition(bundle, runtime, precision, yunet, gallery_path(gallery))
    with open_gallery(gallery, model_id=ready.embedder.model_id, need="calibrate") as opened:
        before = require_operating_point(opened)
        if step_back:
            point = opened.step_back()
            if json:
                say_json({"stepped_back": True, **point.model_dump(mode="json")})
            else:
                tell_point(point)
                note(f"back in force: the operating point of {point.calibrated_at}")
            if opened.calibration_is_stale():
                note("it was calibrated before people were added or removed")
            return
        drifted = drift_reasons(opened)
        for reason in drifted:
            note(f"drift: {reason}")
        if if_stale and not drifted and not opened.calibration_is_stale():
            if json:
                say_json({"calibrated": False, "reason": "nothing has changed", "stale": False})
            else:
                say(f"nothing has changed since {before.calibrated_at}: the threshold stays")
            return
        _calibrate(
            opened, ready, same_wish(before), what_if=None, keep=True, json=json, drifted=drifted
        )


def _calibrate(
    gallery: Gallery,
    ready: Recognition,
    wish: Wish,
    *,
    what_if: int | None,
    keep: bool,
    json: bool,
    drifted: tuple[str, ...] = (),
) -> Calibration:
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
        found = find_operating_point(
            gallery,
            ready.bundle,
            wish,
            calibrated_at=now_utc(),
            drifted=drifted,
            graph=ready.graph,
        )
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
                "drifted": list(drifted),
                **found.point.model_dump(mode="json"),
                "fpir_if_independent": found.point.fpir_if_independent,
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
        return found
    tell_point(found.point)
    if sizes:
        tell_sizes(found, sizes)
    for line in found.point.notes:
        note(line)
    for row in animals:
        note(f"{' and '.join(row['subjects'])}: {row['advice']}")
    if not keep:
        note("a dry run: the old operating point stays")
    return found


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
