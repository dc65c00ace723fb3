"""Verbs that compare: verify and identify."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.options import (
    BundleOption,
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
from limen.cli.output import EXIT_NO, EXIT_YES, note, say, say_json

if TYPE_CHECKING:
    from limen.calibration.operating_point import OperatingPoint
    from limen.device.gallery import Gallery
    from limen.recognition import FaceSample


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(verify)
    app.command()(identify)


def verify(
    pictures: Annotated[list[Path], typer.Argument(help="Two pictures; or one, with --claim.")],
    claim: Annotated[str | None, typer.Option(help="The subject the picture claims to be.")] = None,
    max_fmr: Annotated[
        float, typer.Option(help="For two pictures: the false match rate among strangers.")
    ] = 1e-3,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Are these two pictures of one person? Or: is this picture of the claimed subject?"""
    from limen.calibration.rates import threshold_at_fmr
    from limen.calibration.scores import mated_and_non_mated
    from limen.errors import ConfigError

    if len(pictures) != (2 if claim is None else 1):
        raise ConfigError("name two pictures, or one picture and --claim SUBJECT")
    where = gallery_path(gallery) if claim is not None else None
    ready = open_recognition(bundle, runtime, precision, yunet, where)
    samples = [_acquire(picture, ready) for picture in pictures]
    if claim is None:
        cohort = ready.bundle.cohort()
        _, strangers = mated_and_non_mated(cohort.embeddings, cohort.subject)
        threshold = threshold_at_fmr(strangers, max_fmr)
        score = float(samples[0].embedding @ samples[1].embedding)
        basis = f"FMR {max_fmr:g} among {len(strangers):,} pairs of the bundle's strangers"
    else:
        with _open_calibrated(gallery, ready) as (opened, point):
            from limen.device.recogniser import Recogniser

            threshold = point.threshold
            score = (
                Recogniser(opened.templates(), threshold).verify(samples[0].embedding, claim).score
            )
            basis = f"calibrated for FMR {point.max_fmr:g} at {point.calibrated_at}"
    match = score >= threshold
    if json:
        say_json(
            {
                "match": match,
                "score": score,
                "threshold": threshold,
                "basis": basis,
                "claim": claim,
                "model_id": ready.embedder.model_id,
            }
        )
    else:
        say(
            f"{'match' if match else 'no match'}: score {score:.3f}, threshold {threshold:.3f} ({basis})"
        )
    raise typer.Exit(EXIT_YES if match else EXIT_NO)


def identify(
    picture: Annotated[Path, typer.Argument(help="A picture of somebody.")],
    gallery: GalleryOption = None,
    top: Annotated[int, typer.Option(min=1, max=100, help="How many candidates to list.")] = 5,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Who is this, of those enrolled, if anybody? (Open-set identification.)"""
    from limen.device.recogniser import Recogniser

    ready = open_recognition(bundle, runtime, precision, yunet, gallery_path(gallery))
    sample = _acquire(picture, ready)
    with _open_calibrated(gallery, ready) as (opened, point):
        recogniser = Recogniser(opened.templates(), point.threshold)
        candidates = recogniser.identify(sample.embedding, top)
    best = candidates[0] if candidates and candidates[0].score >= point.threshold else None
    if json:
        say_json(
            {
                "subject": best.subject_id if best else None,
                "candidates": [{"subject": c.subject_id, "score": c.score} for c in candidates],
                "threshold": point.threshold,
                "faces": sample.faces,
                "model_id": ready.embedder.model_id,
            }
        )
    else:
        say(best.subject_id if best else "unknown")
        for candidate in candidates:
            sign = "≥" if candidate.score >= point.threshold else "<"
            note(f"  {candidate.score:.3f} {sign} {point.threshold:.3f}  {candidate.subject_id}")
    raise typer.Exit(EXIT_YES if best else EXIT_NO)


@contextmanager
def _open_calibrated(
    path: Path | None, ready: Recognition
) -> Iterator[tuple[Gallery, OperatingPoint]]:
    """A gallery of this model with its operating point, or an error that says what to do."""
    from limen.device.calibration import require_operating_point

    with open_gallery(path, model_id=ready.embedder.model_id) as opened:
        yield opened, require_operating_point(opened)


def _acquire(picture: Path, ready: Recognition) -> FaceSample:
    from limen.errors import NoFaceError
    from limen.images import read_picture
    from limen.recognition import acquire

    try:
        return acquire(read_picture(picture), ready.detector, ready.embedder)
    except NoFaceError as error:
        raise NoFaceError(f"{picture}: {error}") from error
