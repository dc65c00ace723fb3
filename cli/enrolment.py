"""The verb enrol: from pictures or a camera to references, judged before they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli.options import (
    BundleOption,
    DryRunOption,
    GalleryOption,
    JsonOption,
    NearestOption,
    PrecisionOption,
    Recognition,
    RuntimeOption,
    SourceOption,
    YuNetOption,
    gallery_path,
    open_gallery,
    open_recognition,
)
from limen.cli.output import EXIT_FAILED, note, now_utc, percent, say, say_error, say_json

if TYPE_CHECKING:
    from limen.device.enrolment import Advice, Lookalike, Shots


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(enrol)


def enrol(
    subject: Annotated[str, typer.Argument(help="The subject's id, as it will be reported.")],
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures of the subject.")] = None,
    source: SourceOption = None,
    shots: Annotated[int, typer.Option(min=1, max=20, help="Shots taken from --source.")] = 6,
    nearest: NearestOption = False,
    lookalike: Annotated[
        bool, typer.Option(help="Enrol though somebody enrolled seems to be the same person.")
    ] = False,
    keep_crops: Annotated[
        bool, typer.Option(help="Keep the faces' pictures too, sealed, for a later model.")
    ] = False,
    dry_run: DryRunOption = False,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Teach the door a person, from pictures or a camera. Three or more shots are better than one."""
    from limen.device.enrolment import advise
    from limen.device.enrolment.strangers import Strangers
    from limen.device.subjects import checked_subject_id
    from limen.errors import ConfigError
    from limen.images import encode_jpeg

    if bool(pictures) == (source is not None):
        raise ConfigError("name pictures, or one --source, and not both")
    subject = checked_subject_id(subject)
    ready = open_recognition(bundle, runtime, precision, yunet, gallery_path(gallery))
    path = gallery_path(gallery)
    # Opened before any picture is read, so that a gallery of another model is told at once.
    with open_gallery(
        gallery, model_id=ready.embedder.model_id, create=True, need="enrol"
    ) as opened:
        taken = _taken(pictures, source, shots, ready, one_face=not nearest)
        cohort, point = ready.bundle.cohort(), opened.operating_point()
        advice = advise(
            taken,
            subject,
            opened.references(),
            Strangers.of(cohort.embeddings, cohort.subject),
            point.threshold if point else None,
        )
        kept = advice.shots
        wanted = bool(kept.accepted) and (lookalike or not advice.duplicates)
        if wanted and not dry_run:
            opened.enrol(
                subject,
                kept.embeddings(),
                kept.qualities(),
                now_utc(),
                crops=[encode_jpeg(s.sample.crop) for s in kept.accepted] if keep_crops else (),
            )
        count = next((r.references for r in opened.subjects() if r.subject_id == subject), 0)
    if json:
        say_json(
            {
                **_as_json(subject, advice),
                "enrolled": wanted and not dry_run,
                "references": count,
                "gallery": str(path),
                "model_id": ready.embedder.model_id,
            }
        )
    else:
        for refusal in kept.refused:
            say_error(f"{refusal.path}: {refusal.reason}")
        if wanted:
            say(
                f"{subject}: {len(kept.accepted)} shots {'would be ' if dry_run else ''}enrolled, "
                f"{count} references in all"
            )
            _say_advice(advice)
            note("next: limen calibrate")
    if not kept.accepted:
        say_error(f"nothing was enrolled for '{subject}': no shot could be used")
    elif not wanted:
        twin = advice.duplicates[0]
        say_error(
            f"nothing was enrolled: {_described(twin)}; add to that subject with "
            f"'limen enrol', or confirm that they are two people with --lookalike"
        )
    if not wanted:
        raise typer.Exit(EXIT_FAILED)


def _taken(
    pictures: list[Path] | None,
    source: str | None,
    shots: int,
    ready: Recognition,
    *,
    one_face: bool,
) -> Shots:
    from limen.device.enrolment import shots_from_pictures, shots_from_source

    if source is None:
        return shots_from_pictures(
            pictures or [], ready.detector, ready.embedder, one_face=one_face
        )
    guided = source == "camera" or source.startswith("camera:")
    return shots_from_source(
        source,
        ready.detector,
        ready.embedder,
        shots,
        one_face=one_face,
        guide=note if guided else None,
    )


def _say_advice(advice: Advice) -> None:
    for lookalike in advice.lookalikes:
        note(f"beware: {_described(lookalike)}")
    basis = "" if advice.calibrated else ", before any calibration"
    note(
        f"strangers taken for somebody (FPIR): {percent(advice.fpir_before[0])} before, "
        f"{percent(advice.fpir_after[0])} after, at most {percent(advice.fpir_after[1])} "
        f"(threshold {advice.threshold:.3f}{basis})"
    )


def _described(lookalike: Lookalike) -> str:
    kind = "seems to be the same person" if lookalike.same_person else "looks like this person"
    return (
        f"'{lookalike.subject_id}' {kind}: {lookalike.matches} of {lookalike.comparisons} "
        f"comparisons match, and {percent(lookalike.strangers_as_alike)} of strangers are as alike"
    )


def _as_json(subject: str, advice: Advice) -> dict[str, Any]:
    return {
        "subject": subject,
        "accepted": [
            {"shot": s.name, "quality": round(s.sample.quality, 3)} for s in advice.shots.accepted
        ],
        "refused": [{"shot": r.path, "reason": r.reason} for r in advice.shots.refused],
        "lookalikes": [
            {
                "subject": lookalike.subject_id,
                "score": lookalike.score,
                "matches": lookalike.matches,
                "comparisons": lookalike.comparisons,
                "strangers_as_alike": lookalike.strangers_as_alike,
                "same_person": lookalike.same_person,
            }
            for lookalike in advice.lookalikes
        ],
        "threshold": advice.threshold,
        "calibrated": advice.calibrated,
        "fpir_before": advice.fpir_before[0],
        "fpir_after": advice.fpir_after[0],
        "fpir_after_upper_bound": advice.fpir_after[1],
    }
