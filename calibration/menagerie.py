"""The biometric menagerie: who is missed often, and who looks like whom.

Doddington et al., "Sheep, goats, lambs and wolves", ICSLP 1998: goats are hard to match, lambs are
matched by strangers. Lookalikes are pairs of enrolled people that the threshold may confuse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.bounds import clopper_pearson
from limen.calibration.clusters import design_effect
from limen.calibration.fusion import fuse
from limen.errors import CalibrationError


@dataclass(frozen=True, slots=True)
class SubjectFigures:
    """One enrolled subject, by number.

    references: how many; median_mated and missed: of its mated scores, None without any;
    fmr: the share of strangers' comparisons with this subject that match; fmr_low: its lower bound
    (90 % two-sided, strangers as clusters): above the gallery's own FMR, the subject is a lamb.
    """

    number: int
    references: int
    mated: int
    median_mated: float | None
    missed: int
    fmr: float
    fmr_low: float
    hard_to_match: bool
    easily_matched: bool


@dataclass(frozen=True, slots=True)
class Lookalikes:
    """Two enrolled people, by number, how alike their templates are, and their highest probe."""

    first: int
    second: int
    template_score: float
    highest_score: float
    confused: bool


@dataclass(frozen=True, slots=True)
class Menagerie:
    """subjects in order; lookalikes, most alike first: every pair within `margin` of the threshold."""

    subjects: tuple[SubjectFigures, ...]
    lookalikes: tuple[Lookalikes, ...]


def menagerie(
    references: NDArray[np.float32],
    subject: NDArray[np.int64],
    subjects: int,
    cohort: NDArray[np.float32],
    cohort_subject: NDArray[np.int64],
    mated: NDArray[np.float32],
    mated_subject: NDArray[np.int64],
    threshold: float,
    margin: float = 0.05,
) -> Menagerie:
    """Sort the enrolled. Shapes as for `door_scores`, mated scores as it returns them."""
    if len(cohort) == 0:
        raise CalibrationError("who is easily matched can only be said with a cohort of strangers")
    templates = fuse(references, subject, subjects)
    hits = (cohort @ templates.T) >= threshold
    everybody = float(hits.mean())
    found = []
    for number in range(subjects):
        own = mated[mated_subject == number]
        hit = hits[:, number]
        effect = design_effect(hit, cohort_subject)
        low, _ = clopper_pearson(float(hit.sum()) / effect, len(hit) / effect, 0.9)
        missed = int((own < threshold).sum())
        found.append(
            SubjectFigures(
                number=number,
                references=int((subject == number).sum()),
                mated=len(own),
                median_mated=float(np.median(own)) if len(own) else None,
                missed=missed,
                fmr=float(hit.mean()),
                fmr_low=low,
                hard_to_match=missed > 0 and missed * 2 >= len(own),
                easily_matched=low > everybody,
            )
        )
    among = references @ templates.T
    between = templates @ templates.T
    pairs = []
    for first in range(subjects):
        for second in range(first + 1, subjects):
            highest = max(
                float(among[subject == first, second].max()),
                float(among[subject == second, first].max()),
            )
            if highest >= threshold - margin:
                pairs.append(
                    Lookalikes(
                        first, second, float(between[first, second]), highest, highest >= threshold
                    )
                )
    pairs.sort(key=lambda pair: -pair.highest_score)
    return Menagerie(tuple(found), tuple(pairs))


def advice(figures: SubjectFigures) -> str | None:
    """What to do about a subject, in a sentence; None where nothing is needed."""
    if figures.mated == 0:
        return (
            "one reference only: enrol two or more different shots, so that misses can be foreseen"
        )
    if figures.hard_to_match:
        return (
            f"missed by {figures.missed} of {figures.mated} own shots: enrol more shots in the "
            "light of the door, with and without glasses, and remove blurred ones"
        )
    if figures.easily_matched:
        return (
            "strangers match this subject more often than the others: enrol more shots, or ask "
            "for a second factor"
        )
    return None


def pair_advice(pair: Lookalikes) -> str:
    """What to do about two who look alike."""
    if pair.confused:
        return (
            "a shot of one matches the other: the door opens for either under the other's name; "
            "ask both for a second factor, or calibrate with a lower --max-fmr"
        )
    return "close to the threshold: enrol more shots of both, and look at who was let in as whom"
