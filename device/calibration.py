"""Calibrating a gallery: its own references and a bundle's cohort in, a kept operating point out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limen.bundle import Bundle, CohortEmbeddings
from limen.calibration.calibrate import calibrate
from limen.calibration.door_scores import DoorScores, Probes, door_scores
from limen.calibration.enrolment_faults import find_faults
from limen.calibration.fusion import fuse
from limen.calibration.identification import SizedRate, what_if
from limen.calibration.menagerie import Menagerie, menagerie
from limen.calibration.operating_point import OperatingPoint
from limen.device.gallery import Gallery
from limen.device.subjects import References
from limen.errors import CalibrationError
from limen.manifest import Graph


@dataclass(frozen=True, slots=True)
class Wish:
    """What a calibration is asked for.

    max_fmr, max_fpir: rates that a stranger's comparison, and a stranger held against the whole
    gallery, must keep to; probe_frames: frames of a track that the door fuses into one probe;
    below_floor: the bundle's lowest threshold may be undercut; accept_lookalikes: two subjects as
    alike as one person are two people.
    """

    max_fmr: float = 1e-3
    confidence: float = 0.95
    max_fpir: float | None = None
    probe_frames: int = 1
    below_floor: bool = False
    accept_lookalikes: bool = False


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration that was found, with what it was found from."""

    point: OperatingPoint
    scores: DoorScores
    references: References
    cohort: CohortEmbeddings
    gallery_state: int


def find_operating_point(
    gallery: Gallery,
    bundle: Bundle,
    wish: Wish,
    *,
    calibrated_at: str,
    probes: Probes | None = None,
    graph: Graph | None = None,
) -> Calibration:
    """Find an operating point, and keep nothing yet.

    graph: the one of the bundle's that the door runs; a cohort that another embedded is told of in
    the point's notes.
    CalibrationError where nobody is enrolled, where all shots of a subject are one picture, where
    two subjects are one person, or for a cohort of another model; InsufficientEvidenceError where
    the comparisons cannot carry the wish.
    """
    state = gallery.reference_state()
    references = gallery.references()
    if not references.subject_ids:
        raise CalibrationError("nobody is enrolled: run 'limen enrol SUBJECT PICTURE…' first")
    cohort = bundle.cohort()
    faults = find_faults(
        references.embeddings,
        references.subject,
        len(references.subject_ids),
        cohort.embeddings,
        cohort.subject,
    )
    faults.raise_for(references.subject_ids, wish.accept_lookalikes)
    scores = door_scores(
        references.embeddings,
        references.subject,
        len(references.subject_ids),
        cohort.embeddings,
        cohort.subject,
        probe_frames=wish.probe_frames,
        probes=probes,
    )
    point = calibrate(
        scores,
        max_fmr=wish.max_fmr,
        max_fpir=wish.max_fpir,
        confidence=wish.confidence,
        model_id=gallery.model_id,
        enrolled_subjects=len(references.subject_ids),
        cohort_subjects=len(np.unique(cohort.subject)),
        calibrated_at=calibrated_at,
        threshold_floor=bundle.manifest.threshold_floor,
        below_floor=wish.below_floor,
        probe_frames=wish.probe_frames,
        lookalikes_accepted=wish.accept_lookalikes,
        notes=(*_notes(references, cohort, scores, probes), *_of_another_graph(bundle, graph)),
    )
    return Calibration(point, scores, references, cohort, state)


def keep_calibration(gallery: Gallery, found: Calibration) -> OperatingPoint:
    """Put a calibration in force, in one transaction; the earlier points stay in the history.

    CalibrationError where references were added or removed since it was found: nothing is kept.
    """
    gallery.keep_operating_point(found.point, reference_state=found.gallery_state)
    return found.point


def calibrate_gallery(
    gallery: Gallery,
    bundle: Bundle,
    *,
    max_fmr: float,
    confidence: float,
    calibrated_at: str,
) -> OperatingPoint:
    """Find an operating point and keep it; on any error the old one stays in force.

    Errors as `find_operating_point` and `keep_calibration`.
    """
    wish = Wish(max_fmr=max_fmr, confidence=confidence)
    found = find_operating_point(gallery, bundle, wish, calibrated_at=calibrated_at)
    return keep_calibration(gallery, found)


def sized_rates(found: Calibration, largest: int, rng: np.random.Generator) -> list[SizedRate]:
    """FPIR at the found threshold for galleries of up to `largest`, the present size among them.

    CalibrationError where the cohort has too few strangers to play so many people.
    """
    people = len(found.references.subject_ids)
    sizes = {people, largest, *np.geomspace(1, max(largest, 2), 8).round().astype(int).tolist()}
    return what_if(
        fuse(found.references.embeddings, found.references.subject, people),
        found.cohort.embeddings,
        found.cohort.subject,
        found.point.threshold,
        sorted(size for size in sizes if size <= max(largest, people)),
        confidence=found.point.confidence,
        rng=rng,
        probe_frames=found.point.probe_frames,
    )


def gallery_menagerie(found: Calibration) -> Menagerie:
    """Who of the enrolled is missed often, is matched by strangers, or looks like whom."""
    return menagerie(
        found.references.embeddings,
        found.references.subject,
        len(found.references.subject_ids),
        found.cohort.embeddings,
        found.cohort.subject,
        found.scores.mated,
        found.scores.mated_subject,
        found.point.threshold,
    )


def same_wish(point: OperatingPoint) -> Wish:
    """What the point was asked for, to be asked again."""
    return Wish(
        max_fmr=point.max_fmr,
        confidence=point.confidence,
        max_fpir=point.max_fpir,
        probe_frames=point.probe_frames,
        below_floor=point.below_floor,
        accept_lookalikes=point.lookalikes_accepted,
    )


def require_operating_point(gallery: Gallery) -> OperatingPoint:
    """The gallery's operating point. CalibrationError where it was never calibrated."""
    point = gallery.operating_point()
    if point is None:
        raise CalibrationError(
            "this gallery has no operating point, so no score can be called a match: "
            "run 'limen calibrate'"
        )
    return point


def _of_another_graph(bundle: Bundle, graph: Graph | None) -> tuple[str, ...]:
    """What it means that the strangers were embedded otherwise than at the door; () if not."""
    if graph is None or bundle.manifest.cohort is None:
        return ()
    cohort = bundle.manifest.cohort
    if cohort.is_of(graph, bundle.manifest.graphs):
        return ()
    sentence = (
        f"The cohort's strangers were embedded by {cohort.graph or 'a network'} at "
        f"{cohort.precision}, and this door runs {graph.path} at {graph.precision}: strangers at "
        "the door may score a little higher than those. Run the bundle's default runtime and "
        "precision, or ask for a stricter FMR."
    )
    return (sentence,)


def _notes(
    references: References,
    cohort: CohortEmbeddings,
    scores: DoorScores,
    probes: Probes | None,
) -> tuple[str, ...]:
    """What the evidence lacks, in sentences, without names."""
    notes = []
    people = len(references.subject_ids)
    if people == 1:
        notes.append(
            "One person is enrolled: the threshold rests on the cohort's strangers alone, and "
            "holds for this one person."
        )
    elif people < 10:
        notes.append(
            f"{people} people are enrolled: the bound rests on the "
            f"{len(np.unique(cohort.subject)):,} strangers of the cohort."
        )
    single = people - len(np.unique(scores.mated_subject))
    if single:
        notes.append(
            f"{single} of {people} people have one reference and no probe: how often they are "
            "missed is not known."
        )
    if probes is None and len(scores.mated):
        notes.append(
            "FNMR is of enrolment shots against each other, which are more alike than visits: "
            "expect more misses at the door."
        )
    return tuple(notes)
