"""The demonstration: enrol, calibrate, watch a door for half a minute, tell what happened."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.bundle import Bundle, CohortEmbeddings, open_bundle
from limen.calibration.calibrate import (
    DoorScores,
    InsufficientEvidenceError,
    calibrate,
    door_scores,
)
from limen.calibration.operating_point import OperatingPoint
from limen.demo.doorway import SimulatedDoorway, enrolment_shots
from limen.demo.people import Cast, demo_people, from_folder
from limen.demo.report import Evidence, write_report
from limen.demo.script import Truth
from limen.demo.setting import describe
from limen.demo.story import DemoResult, result_of
from limen.demo.watch import DoorParts, Report, watch
from limen.detection import Detector
from limen.device.enrolment import shots_from_source
from limen.device.gallery import Gallery
from limen.device.recogniser import Recogniser
from limen.device.sources import FrameSource, open_source
from limen.embedder import Embedder
from limen.errors import NoFaceError
from limen.recognition import FaceSample, acquire

MAX_FMR = 1e-3
CONFIDENCE = 0.95
ENROLMENT_SHOTS = 6
LIVE_SUBJECT = "you"


@dataclass(frozen=True, slots=True)
class _Parts:
    """What compares faces, and what the report says of it."""

    detector: Detector
    embedder: Embedder
    cohort: CohortEmbeddings
    threshold_floor: float | None
    bundle: str
    runtime: str


@dataclass(frozen=True, slots=True)
class _Scenario:
    """Whom the door learns, and what it then sees. script: None before a live camera."""

    subject_id: str
    samples: tuple[FaceSample, ...]
    frames: FrameSource
    script: list[Truth] | None


def run_demo(
    out: Path,
    source: str | None = None,
    *,
    bundle: Bundle | Path | None = None,
    seed: int = 1,
    report: Report = print,
    detector: Detector | None = None,
    embedder: Embedder | None = None,
    cohort: CohortEmbeddings | None = None,
    cast: Cast | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> DemoResult:
    """Play the demonstration into `out`: gallery.db, frames/*.jpg, report.html.

    source: None for the two people of the `demo` extra; a folder with a subfolder for each person;
    else a camera, stream or video as `open_source` names it, whose first good frames enrol whoever
    stands there. What an earlier run left in `out` is replaced. report: takes progress, a line
    each. The bundle's parts may be given one by one; with an embedder, a cohort is needed too.

    Errors of the parts it uses: BundleError, RuntimeUnavailableError, SourceError, NoFaceError,
    CalibrationError.
    """
    parts = _parts(bundle, detector, embedder, cohort)
    now = datetime.now(UTC)
    frames = _fresh(out)
    report("Enrolling")
    scenario = _scenario(source, cast, parts, seed, clock)
    with Gallery.open(out / "gallery.db", model_id=parts.embedder.model_id, create=True) as gallery:
        gallery.enrol(
            scenario.subject_id,
            np.stack([sample.embedding for sample in scenario.samples]),
            [sample.quality for sample in scenario.samples],
            now.isoformat(timespec="seconds"),
        )
        report("Calibrating the threshold against strangers")
        point, scores = _calibrated(gallery, parts, now)
        recogniser = Recogniser(gallery.references(), point.threshold)
    report("Watching the door")
    door_parts = DoorParts(parts.detector, parts.embedder, recogniser)
    moments = watch(scenario.frames, scenario.script, door_parts, frames, report)
    report("Writing the report")
    page = out / "report.html"
    result = replace(result_of(moments), page=page, frames=frames)
    evidence = Evidence(point, scores, references=len(scenario.samples))
    setting = describe(
        parts.bundle, parts.embedder.model_id, parts.runtime, parts.detector.detector_id
    )
    write_report(page, result, evidence, setting, f"{now.day} {now:%B %Y}, {now:%H:%M} UTC")
    return result


def _parts(
    bundle: Bundle | Path | None,
    detector: Detector | None,
    embedder: Embedder | None,
    cohort: CohortEmbeddings | None,
) -> _Parts:
    if detector is not None and embedder is not None and cohort is not None:
        return _Parts(detector, embedder, cohort, None, "none: parts given one by one", "as given")
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    graph = opened.graph()
    finder = detector or opened.detector()
    return _Parts(
        detector=finder,
        embedder=embedder or opened.embedder(detector=finder),
        cohort=cohort or opened.cohort(),
        threshold_floor=opened.manifest.threshold_floor,
        bundle=f"{opened.manifest.name}, weights {opened.manifest.licence.weights}",
        runtime=f"{graph.runtime}, {graph.precision}",
    )


def _fresh(out: Path) -> Path:
    """Clear away what an earlier demonstration wrote to `out`, and nothing else."""
    frames = out / "frames"
    frames.mkdir(parents=True, exist_ok=True)
    for path in (*frames.glob("[0-9]*.jpg"), *out.glob("gallery.db*"), out / "report.html"):
        path.unlink(missing_ok=True)
    return frames


def _scenario(
    source: str | None, cast: Cast | None, parts: _Parts, seed: int, clock: Callable[[], float]
) -> _Scenario:
    if source is not None and cast is None and not Path(source).expanduser().is_dir():
        return _live_scenario(source, parts, clock)
    if cast is None:
        cast = demo_people() if source is None else from_folder(Path(source).expanduser())
    person = cast.enrolled
    shots = enrolment_shots(person, parts.detector, ENROLMENT_SHOTS, seed + 10)
    doorway = SimulatedDoorway(cast, parts.detector, seed=seed)
    return _Scenario(person.subject_id, _samples(shots, parts), doorway, doorway.script)


def _live_scenario(source: str, parts: _Parts, clock: Callable[[], float]) -> _Scenario:
    """Enrol whoever stands before a camera (or in a video) first, then watch it for a while."""
    shots = shots_from_source(source, parts.detector, parts.embedder, ENROLMENT_SHOTS)
    if not shots.accepted:
        raise NoFaceError(f"nobody could be enrolled from the source: {shots.refused[0].reason}")
    samples = tuple(shot.sample for shot in shots.accepted)
    return _Scenario(LIVE_SUBJECT, samples, open_source(source, clock), None)


def _samples(shots: list[NDArray[np.uint8]], parts: _Parts) -> tuple[FaceSample, ...]:
    samples = []
    for shot in shots:
        try:
            samples.append(acquire(shot, parts.detector, parts.embedder))
        except NoFaceError:
            continue
    if not samples:
        raise NoFaceError(
            f"no face was found in any of {len(shots)} enrolment shots; "
            "bring a picture that shows the person from the front, upright"
        )
    return tuple(samples)


def _calibrated(
    gallery: Gallery, parts: _Parts, now: datetime
) -> tuple[OperatingPoint, DoorScores]:
    references = gallery.references()
    scores = door_scores(
        references.embeddings,
        references.subject,
        len(references.subject_ids),
        parts.cohort.embeddings,
        parts.cohort.subject,
    )

    def at(max_fmr: float) -> OperatingPoint:
        return calibrate(
            scores,
            max_fmr=max_fmr,
            confidence=CONFIDENCE,
            model_id=parts.embedder.model_id,
            enrolled_subjects=len(references.subject_ids),
            cohort_subjects=len(np.unique(parts.cohort.subject)),
            calibrated_at=now.isoformat(timespec="seconds"),
            threshold_floor=parts.threshold_floor,
        )

    try:
        point = at(MAX_FMR)
    except InsufficientEvidenceError as error:  # one person: few comparisons, so a weaker claim
        point = at(error.strongest_max_fmr)
    gallery.keep_operating_point(point)
    return point, scores
