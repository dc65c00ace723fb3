"""Many people at once: a folder a person, or a CSV with a picture a line."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from limen.bundle import CohortEmbeddings
from limen.calibration.fusion import fuse
from limen.detection import Detector
from limen.device.enrolment.advice import kept_together, own_references
from limen.device.enrolment.shots import Shots, shots_from_pictures
from limen.device.enrolment.strangers import Strangers
from limen.device.recogniser import fused
from limen.device.subjects import References, SubjectDetails, checked_subject_id, parsed_time
from limen.embedder import Embedder
from limen.errors import ConfigError, GalleryError
from limen.folder import find_pictures
from limen.images import PICTURE_SUFFIXES
from limen.settings import explain_validation_error

MAX_CSV_BYTES = 64 * 2**20
REQUIRED = ("subject", "picture")
OPTIONAL = ("display_name", "groups", "expires_at", "may_enter", "notes")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody to enrol. details: None where nothing was said of the person."""

    subject_id: str
    pictures: tuple[Path, ...]
    details: SubjectDetails | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A person with the shots that were taken. seems_to_be: ids of others who look the same."""

    person: Person
    shots: Shots
    seems_to_be: tuple[str, ...] = ()


def people_from_folders(folder: Path) -> list[Person]:
    """One person a subfolder that holds pictures; its name is the subject id.

    ConfigError where there is none, GalleryError for a name that is no subject id.
    """
    people = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any(p.suffix.lower() in PICTURE_SUFFIXES for p in place.rglob("*")):
            try:
                name = checked_subject_id(place.name)
            except GalleryError as error:
                raise GalleryError(f"{place}: {error}") from error
            people.append(Person(name, tuple(find_pictures([place])), None))
    if not people:
        raise ConfigError(f"{folder}: expected a subfolder of pictures for each person, found none")
    return people


def people_from_csv(path: Path) -> list[Person]:
    """One picture a line, with a heading: subject, picture, and what else is known.

    Relative pictures start at the file's folder; `groups` are separated by semicolons; a subject's
    details come from the first line that has them. ConfigError with the number of the first line
    that is wrong: then nobody is enrolled.
    """
    try:
        if path.stat().st_size > MAX_CSV_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_CSV_BYTES // 2**20} MiB; split it")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_heading(path, reader.fieldnames)
            return _people(path, reader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text; save it as that") from error


def judge_people(
    people: list[Person],
    detector: Detector,
    embedder: Embedder,
    *,
    one_face: bool = True,
    report: Callable[[int], None] = lambda _: None,
) -> list[Judged]:
    """Take everybody's shots. report: called with the number of people done."""
    judged = []
    for number, person in enumerate(people):
        shots = shots_from_pictures(person.pictures, detector, embedder, one_face=one_face)
        judged.append(Judged(person, shots))
        report(number + 1)
    return judged


def judged_together(
    judged: list[Judged], enrolled: References, cohort: CohortEmbeddings
) -> list[Judged]:
    """The same people with shots that are of one person each, and who seems to be there twice."""
    strangers = Strangers.of(cohort.embeddings, cohort.subject)
    alike = strangers.at_fmr_1e_3
    together = []
    for one in judged:
        name = one.person.subject_id
        own = own_references(enrolled, name, cohort.embeddings.shape[1])
        shots = kept_together(one.shots, own, alike)
        together.append(replace(one, shots=shots))
    names, templates = _everybody(enrolled, together)
    same_person = strangers.same_person_among(len(names))
    return [
        replace(one, seems_to_be=_seems_to_be(one, names, templates, same_person))
        for one in together
    ]


def _everybody(enrolled: References, new: list[Judged]) -> tuple[list[str], NDArray[np.float32]]:
    """Ids and fused references (n, D) of those enrolled and of those to be."""
    names = list(enrolled.subject_ids)
    rows = [fused(enrolled)] if names else []
    for one in new:
        if one.shots.accepted and one.person.subject_id not in names:
            own = one.shots.embeddings()
            names.append(one.person.subject_id)
            rows.append(fuse(own, np.zeros(len(own), np.int64), 1))
    return names, np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)


def _seems_to_be(
    one: Judged, names: list[str], templates: NDArray[np.float32], same_person: float
) -> tuple[str, ...]:
    """Ids of others whom most of a person's shots are as alike as one person is to itself."""
    if not one.shots.accepted:
        return ()
    scores = np.median(one.shots.embeddings() @ templates.T, axis=0)
    alike = (names[row] for row in np.flatnonzero(scores >= same_person))
    return tuple(name for name in alike if name != one.person.subject_id)


def _check_heading(path: Path, names: Any) -> None:
    found = list(names or [])
    missing = [name for name in REQUIRED if name not in found]
    unknown = [name for name in found if name not in (*REQUIRED, *OPTIONAL)]
    if missing or unknown or len(set(found)) != len(found):
        raise ConfigError(
            f"{path}: line 1: expected the columns {', '.join(REQUIRED)} and, if wanted, "
            f"{', '.join(OPTIONAL)}; found {', '.join(map(repr, found)) or 'none'}"
        )


def _people(path: Path, reader: csv.DictReader[str]) -> list[Person]:
    pictures: dict[str, list[Path]] = {}
    details: dict[str, SubjectDetails] = {}
    begins = 2  # where the record under way begins; a quoted field may go on for lines
    try:
        for row in reader:
            name, picture, known = _line(path.parent, row)
            pictures.setdefault(name, []).append(picture)
            if known is not None:
                details.setdefault(name, known)
            begins = reader.line_num + 1
    except (GalleryError, ConfigError, csv.Error) as error:
        raise ConfigError(
            f"{path}: line {begins}: {error}; nobody was enrolled: correct that line"
        ) from error
    if not pictures:
        raise ConfigError(f"{path}: no line below the heading; nobody was enrolled")
    return [Person(name, tuple(own), details.get(name)) for name, own in pictures.items()]


def _line(folder: Path, row: dict[str | None, Any]) -> tuple[str, Path, SubjectDetails | None]:
    if None in row:
        raise ConfigError("more fields than the heading has")
    if None in row.values():
        raise ConfigError("fewer fields than the heading has")
    name = checked_subject_id(row["subject"])
    if not row["picture"] or "\0" in row["picture"]:
        raise ConfigError("no picture is named")
    picture = folder / row["picture"]
    if not picture.is_file():
        raise ConfigError("the picture is not there, or is no file")
    told: dict[str, Any] = {key: row[key] for key in OPTIONAL if row.get(key)}
    if not told:
        return name, picture, None
    if "groups" in told:
        told["groups"] = tuple(part.strip() for part in told["groups"].split(";"))
    if "expires_at" in told:
        told["expires_at"] = parsed_time(told["expires_at"])
    try:
        return name, picture, SubjectDetails.model_validate(told)
    except ValidationError as error:
        raise ConfigError(explain_validation_error(error, SubjectDetails)) from error
