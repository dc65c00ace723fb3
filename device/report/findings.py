"""What a report tells, as plain values: the same for the page, the picture and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.calibration.bootstrap import det_band
from limen.calibration.figures import Figures, figures
from limen.calibration.identification import SizedRate
from limen.calibration.meaning import cohort_mated_scores
from limen.calibration.menagerie import Menagerie, advice, pair_advice
from limen.calibration.operating_point import OperatingPoint
from limen.device.calibration import Calibration, gallery_menagerie, sized_rates
from limen.errors import CalibrationError

_HIGHEST_FMR = 0.05
_LEVELS = 60
_DRAWS = 200
_HARDEST_PAIRS = 5
# Below this many false matches a rate is one of a handful of faces.
_SHOWN_FALSE_MATCHES = 1


@dataclass(frozen=True, slots=True)
class Det:
    """FNMR against FMR, with a band over people. All (k,), FMR rising."""

    fmr: NDArray[np.float64]
    fnmr: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, or two people, who need something. kind: 'lookalikes', 'missed', 'matched', 'few'."""

    kind: str
    people: tuple[str, ...]
    score: float | None
    advice: str


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything the report shows.

    mated_from: 'gallery', or 'cohort' where the gallery has too few mated scores to draw; named:
    whether `people` are the enrolled by name, or letters.
    """

    point: OperatingPoint
    mated: NDArray[np.float32]
    mated_from: str
    non_mated: NDArray[np.float32]
    det: Det | None
    sizes: Sequence[SizedRate]
    figures: Figures | None
    people: Sequence[Person]
    hardest: Sequence[Person]
    named: bool
    stale: bool
    bundle: str
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: figures, curves and people; single scores stay out."""
        det = self.det
        return {
            "operating_point": self.point.model_dump(mode="json"),
            "figures": None if self.figures is None else asdict(self.figures),
            "mated_from": self.mated_from,
            "det": None
            if det is None
            else {
                "fmr": det.fmr.tolist(),
                "fnmr": det.fnmr.tolist(),
                "fnmr_low": det.low.tolist(),
                "fnmr_high": det.high.tolist(),
            },
            "by_gallery_size": [asdict(row) for row in self.sizes],
            "people": [asdict(person) for person in self.people],
            "hardest_pairs": [asdict(pair) for pair in self.hardest],
            "named": self.named,
            "stale": self.stale,
            "bundle": self.bundle,
            "not_known": list(self.notes),
        }


def findings(
    found: Calibration, *, named: bool, stale: bool, bundle: str, rng: np.random.Generator
) -> Findings:
    """Work out what to tell of a calibration.

    named: tell the enrolled by name; letters stand for them otherwise, in the order in which the
    report comes to them, so that they say nothing of who it is.
    """
    scores, point = found.scores, found.point
    mated, owner, mated_from = scores.mated, scores.mated_subject, "gallery"
    if len(np.unique(owner)) < 2 or len(mated) < 4:
        people = len(found.references.subject_ids)
        shots = max(1, round(len(found.references.subject) / people))
        mated, owner = cohort_mated_scores(
            found.cohort.embeddings, found.cohort.subject, shots, point.probe_frames
        )
        mated_from = "cohort"
    drawable = len(mated) >= 4 and len(np.unique(scores.stranger)) >= 2
    names = _Names(found.references.subject_ids, named)
    animals = gallery_menagerie(found) if len(found.cohort.embeddings) else None
    return Findings(
        point=point,
        mated=mated,
        mated_from=mated_from,
        non_mated=scores.non_mated,
        det=_det(mated, owner, scores.non_mated, scores.stranger, point.confidence, rng)
        if drawable
        else None,
        sizes=_sizes(found, rng),
        figures=figures(mated, scores.non_mated) if drawable else None,
        people=_people(animals, names) if animals else (),
        hardest=_hardest(found, names),
        named=named,
        stale=stale,
        bundle=bundle,
        notes=point.notes,
    )


def _det(
    mated: NDArray[np.float32],
    owner: NDArray[np.int64],
    non_mated: NDArray[np.float32],
    stranger: NDArray[np.int64],
    confidence: float,
    rng: np.random.Generator,
) -> Det:
    lowest = max(_SHOWN_FALSE_MATCHES / len(non_mated), 1e-6)
    levels = np.geomspace(lowest, max(_HIGHEST_FMR, 2 * lowest), _LEVELS)
    low, high = det_band(mated, owner, non_mated, stranger, levels, confidence, rng, _DRAWS)
    falling = -np.sort(-non_mated)
    rejected = falling[
        np.minimum((levels * (1 + 1e-12) * len(falling)).astype(int), len(falling) - 1)
    ]
    fnmr = np.searchsorted(np.sort(mated), rejected, side="right") / len(mated)
    return Det(levels, fnmr, np.minimum(low, fnmr), np.maximum(high, fnmr))


def _sizes(found: Calibration, rng: np.random.Generator) -> Sequence[SizedRate]:
    people = len(found.references.subject_ids)
    strangers = len(np.unique(found.cohort.subject)) if len(found.cohort.embeddings) else 0
    largest = min(max(3 * people, 50), people + strangers // 2)
    try:
        return sized_rates(found, largest, rng) if strangers else ()
    except CalibrationError:
        return ()


class _Names:
    """Names, or letters in the order in which people are asked for."""

    def __init__(self, subject_ids: Sequence[str], named: bool) -> None:
        self._ids, self._named = subject_ids, named
        self._letters: dict[int, str] = {}

    def of(self, number: int) -> str:
        if self._named:
            return self._ids[number]
        place = self._letters.setdefault(number, "")
        if not place:
            count = len(self._letters) - 1
            place = f"person {chr(65 + count)}" if count < 26 else f"person {count + 1}"
            self._letters[number] = place
        return place

    def of_both(self, first: int, second: int) -> tuple[str, str]:
        """Both, letters in their order."""
        one, other = self.of(first), self.of(second)
        return (one, other) if self._named or one < other else (other, one)


def _people(animals: Menagerie, names: _Names) -> tuple[Person, ...]:
    rows = [
        Person(
            "lookalikes",
            names.of_both(pair.first, pair.second),
            pair.highest_score,
            pair_advice(pair),
        )
        for pair in animals.lookalikes
    ]
    for figures_of in animals.subjects:
        sentence = advice(figures_of)
        if sentence is None:
            continue
        kind = (
            "few" if figures_of.mated == 0 else "missed" if figures_of.hard_to_match else "matched"
        )
        rows.append(Person(kind, (names.of(figures_of.number),), figures_of.median_mated, sentence))
    return tuple(rows)


def _hardest(found: Calibration, names: _Names) -> tuple[Person, ...]:
    """The pairs of enrolled people whose shots are most alike, whether or not it matters."""
    references = found.references
    people = len(references.subject_ids)
    if people < 2:
        return ()
    from limen.calibration.fusion import fuse

    among = references.embeddings @ fuse(references.embeddings, references.subject, people).T
    highest = np.full((people, people), -np.inf, np.float32)
    np.maximum.at(highest, references.subject, among)
    both = np.triu(np.maximum(highest, highest.T), 1) + np.tril(np.full_like(highest, -np.inf))
    order = np.argsort(-both, axis=None, kind="stable")[
        : min(_HARDEST_PAIRS, people * (people - 1) // 2)
    ]
    rows = []
    for first, second in zip(*np.unravel_index(order, both.shape), strict=True):
        score = float(both[first, second])
        rows.append(Person("pair", names.of_both(int(first), int(second)), score, ""))
    return tuple(rows)
