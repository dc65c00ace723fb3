"""Verbs over the gallery: enrol, verify, identify, subjects, calibrate."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    open_recognition,
)
from limen.cli.output import (
    EXIT_FAILED,
    EXIT_NO,
    EXIT_YES,
    note,
    percent,
    print_table,
    say,
    say_error,
    say_json,
)

if TYPE_CHECKING:
    from limen.calibration.operating_point import OperatingPoint
    from limen.device.gallery import Gallery
    from limen.recognition import FaceSample

subjects_app = typer.Typer(help="List or remove enrolled subjects.", no_args_is_help=False)


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(enrol)
    app.command()(verify)
    app.command()(identify)
    app.command()(calibrate)
    app.add_typer(subjects_app, name="subjects", invoke_without_command=True)


def enrol(
    subject: Annotated[str, typer.Argument(help="The subject's id, as it will be reported.")],
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures of the subject.")] = None,
    source: Annotated[str | None, typer.Option(help="camera, a video, a folder, rtsp://…")] = None,
    shots: Annotated[int, typer.Option(min=1, max=50, help="Shots taken from --source.")] = 5,
    nearest: Annotated[
        bool, typer.Option(help="Where several faces are seen, take the nearest.")
    ] = False,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Teach the door a person, from pictures or a camera. Three or more shots are better than one."""
    from limen.device.enrolment import shots_from_pictures, shots_from_source
    from limen.device.gallery import Gallery
    from limen.device.subjects import checked_subject_id
    from limen.errors import ConfigError

    if bool(pictures) == (source is not None):
        raise ConfigError("name pictures, or one --source, and not both")
    subject = checked_subject_id(subject)
    ready = open_recognition(bundle, runtime, precision, yunet)
    path = gallery_path(gallery)
    # Opened before any picture is read, so that a gallery of another model is told at once.
    with Gallery.open(path, model_id=ready.embedder.model_id, create=True) as opened:
        taken = (
            shots_from_source(source, ready.detector, ready.embedder, shots, one_face=not nearest)
            if source is not None
            else shots_from_pictures(
                pictures or [], ready.detector, ready.embedder, one_face=not nearest
            )
        )
        if taken.accepted:
            opened.enrol(subject, taken.embeddings(), taken.qualities(), _now())
        count = next((r.references for r in opened.subjects() if r.subject_id == subject), 0)
    result = {
        "subject": subject,
        "accepted": [
            {"shot": s.name, "quality": round(s.sample.quality, 3)} for s in taken.accepted
        ],
        "refused": [{"shot": r.path, "reason": r.reason} for r in taken.refused],
        "references": count,
        "gallery": str(path),
        "model_id": ready.embedder.model_id,
    }
    if json:
        say_json(result)
    else:
        for refusal in taken.refused:
            say_error(f"{refusal.path}: {refusal.reason}")
        if taken.accepted:
            say(f"{subject}: {len(taken.accepted)} shots enrolled, {count} references in all")
            note("next: limen calibrate")
    if not taken.accepted:
        say_error(f"nothing was enrolled for '{subject}': no shot could be used")
        raise typer.Exit(EXIT_FAILED)


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
    ready = open_recognition(bundle, runtime, precision, yunet)
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
                Recogniser(opened.references(), threshold).verify(samples[0].embedding, claim).score
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

    ready = open_recognition(bundle, runtime, precision, yunet)
    sample = _acquire(picture, ready)
    with _open_calibrated(gallery, ready) as (opened, point):
        candidates = Recogniser(opened.references(), point.threshold).identify(sample.embedding)
    best = candidates[0] if candidates and candidates[0].score >= point.threshold else None
    if json:
        say_json(
            {
                "subject": best.subject_id if best else None,
                "candidates": [
                    {"subject": c.subject_id, "score": c.score} for c in candidates[:top]
                ],
                "threshold": point.threshold,
                "faces": sample.faces,
                "model_id": ready.embedder.model_id,
            }
        )
    else:
        say(best.subject_id if best else "unknown")
        for candidate in candidates[:top]:
            sign = "≥" if candidate.score >= point.threshold else "<"
            note(f"  {candidate.score:.3f} {sign} {point.threshold:.3f}  {candidate.subject_id}")
    raise typer.Exit(EXIT_YES if best else EXIT_NO)


@subjects_app.callback()
def subjects(
    context: typer.Context,
    gallery: GalleryOption = None,
    json: JsonOption = False,
) -> None:
    """List who is enrolled."""
    if context.invoked_subcommand is None:
        _list(gallery, json)


@subjects_app.command("list")
def list_subjects(gallery: GalleryOption = None, json: JsonOption = False) -> None:
    """List who is enrolled."""
    _list(gallery, json)


def _list(gallery: Path | None, json: bool) -> None:
    from limen.device.gallery import Gallery

    path = gallery_path(gallery)
    with Gallery.open(path) as opened:
        records = opened.subjects()
        point, stale = opened.operating_point(), opened.calibration_is_stale()
        model_id = opened.model_id
    if json:
        say_json(
            {
                "gallery": str(path),
                "model_id": model_id,
                "subjects": [
                    {
                        "subject": record.subject_id,
                        "references": record.references,
                        "enrolled_at": record.enrolled_at,
                    }
                    for record in records
                ],
                "operating_point": point.model_dump(mode="json") if point else None,
                "calibration_is_stale": stale,
            }
        )
        return
    print_table(
        f"{len(records)} enrolled in {path}",
        ["subject", "references", "enrolled at"],
        [[r.subject_id, str(r.references), r.enrolled_at] for r in records],
    )
    if records and (point is None or stale):
        note("not calibrated for these references yet: limen calibrate")


@subjects_app.command("remove")
def remove_subject(
    subject: Annotated[str, typer.Argument(help="The subject's id.")],
    gallery: GalleryOption = None,
    json: JsonOption = False,
) -> None:
    """Forget a subject: the templates are deleted and overwritten."""
    from limen.device.gallery import Gallery

    with Gallery.open(gallery_path(gallery)) as opened:
        opened.remove(subject)
    if json:
        say_json({"removed": subject})
    else:
        say(f"{subject} removed")


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
    from limen.device.gallery import Gallery

    ready = open_recognition(bundle, runtime, precision, yunet)
    with Gallery.open(gallery_path(gallery), model_id=ready.embedder.model_id) as opened:
        try:
            point = calibrate_gallery(
                opened, ready.bundle, max_fmr=max_fmr, confidence=confidence, calibrated_at=_now()
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


class _open_calibrated:  # noqa: N801  (reads as the verb it is: with _open_calibrated(...) as ...)
    """A gallery of this model with its operating point, or an error that says what to do."""

    def __init__(self, path: Path | None, ready: Recognition) -> None:
        from limen.device.gallery import Gallery

        self._gallery = Gallery.open(gallery_path(path), model_id=ready.embedder.model_id)

    def __enter__(self) -> tuple[Gallery, OperatingPoint]:
        from limen.device.calibration import require_operating_point

        try:
            return self._gallery, require_operating_point(self._gallery)
        except BaseException:
            self._gallery.close()
            raise

    def __exit__(self, *_: Any) -> None:
        self._gallery.close()


def _acquire(picture: Path, ready: Recognition) -> FaceSample:
    from limen.errors import NoFaceError
    from limen.images import read_picture
    from limen.recognition import acquire

    try:
        return acquire(read_picture(picture), ready.detector, ready.embedder)
    except NoFaceError as error:
        raise NoFaceError(f"{picture}: {error}") from error


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
