"""The verb report: the operating point in force, as a page or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli.options import (
    BundleOption,
    GalleryOption,
    JsonOption,
    PrecisionOption,
    RuntimeOption,
    YuNetOption,
    authorise,
    open_gallery,
    open_recognition,
)
from limen.cli.output import note, print_table, say, say_json

if TYPE_CHECKING:
    from limen.bundle import Bundle
    from limen.device.calibration import Calibration
    from limen.device.report.findings import Findings

_SEED = 1  # the same gallery gives the same page


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(report)


def report(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Where to: FILE.html, FILE.png, FILE.pdf.")
    ] = None,
    names: Annotated[
        bool, typer.Option(help="Tell people by name; once there is an owner, only to the owner.")
    ] = False,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """How often is this door wrong? The threshold in force, with its evidence."""
    from dataclasses import replace

    from limen.calibration.calibrate import InsufficientEvidenceError
    from limen.device.calibration import find_operating_point, require_operating_point, same_wish
    from limen.errors import CalibrationError

    check_files(files or [])
    ready = open_recognition(bundle, runtime, precision, yunet)
    with open_gallery(gallery, model_id=ready.embedder.model_id) as opened:
        if names:
            authorise(opened, None)
        point = require_operating_point(opened)
        try:
            found = find_operating_point(
                opened, ready.bundle, same_wish(point), calibrated_at=point.calibrated_at
            )
        except InsufficientEvidenceError as error:
            raise CalibrationError(
                f"the gallery has changed so much that its threshold cannot be shown: {error}"
            ) from error
        stale = opened.calibration_is_stale()
    told = findings_of(replace(found, point=point), ready.bundle, names=names, stale=stale)
    write_reports(files or [], told)
    if json:
        say_json(told.as_dict())
        return
    tell_people(told)
    for path in files or ():
        say(f"{path}")


def check_files(files: list[Path]) -> None:
    """Refuse what could not be written, before anything is measured or kept.

    ConfigError for another kind of file, RuntimeUnavailableError for a picture without matplotlib.
    """
    from limen.cli.extras import needs_extra
    from limen.device.report.write import check_kind

    for path in files:
        check_kind(path)
    if any(path.suffix.lower() != ".html" for path in files):
        with needs_extra("report", "matplotlib"):
            import matplotlib  # noqa: F401 - whether it is there is the question


def findings_of(
    found: Calibration, bundle: Bundle, *, names: bool, stale: bool = False
) -> Findings:
    """What to tell of a calibration."""
    import numpy as np

    from limen.device.report.findings import findings

    return findings(
        found,
        named=names,
        stale=stale,
        bundle=bundle.manifest.name,
        rng=np.random.default_rng(_SEED),
    )


def write_reports(files: list[Path], told: Findings) -> None:
    """Write each."""
    from limen.device.report.write import write_report

    for path in files:
        write_report(path, told)


def tell_people(told: Findings) -> None:
    """The short table, and who needs something."""
    from limen.device.report import words

    say(words.headline(told.point))
    rows: list[Any] = [[label, value, below] for label, value, below in words.figures(told.point)]
    print_table("this door", ["", "measured", "limits"], rows)
    if told.people:
        print_table(
            "who needs something",
            ["who", "what to do"],
            [[" and ".join(person.people), person.advice] for person in told.people],
        )
    note("What is not known:")
    for sentence in words.not_known(told):
        note(f"  {sentence}")
