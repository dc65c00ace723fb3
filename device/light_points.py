"""Points by day and night from a gallery's guided visits."""

from __future__ import annotations

from limen.bundle import CohortEmbeddings
from limen.calibration.by_condition import MIN_VISITORS, condition_point, enough_visitors
from limen.calibration.calibrate import InsufficientEvidenceError
from limen.calibration.conditions import Condition
from limen.calibration.operating_point import ConditionPoint, OperatingPoint
from limen.calibration.transactions import TransactionRule
from limen.device.kept_visits import KeptVisit, against_strangers
from limen.errors import CalibrationError


def with_light_points(
    point: OperatingPoint,
    usable: list[tuple[int, KeptVisit]],
    cohort: CohortEmbeddings,
    rule: TransactionRule,
) -> OperatingPoint:
    """The point with one of its own for day and night, where their visits carry it.

    A condition whose visits do not is left without, says so in the notes, and takes the strictest
    threshold at the door. CalibrationError where no condition has enough.
    """
    found: list[ConditionPoint] = []
    notes: list[str] = []
    for condition in Condition:
        here = [(number, visit) for number, visit in usable if visit.condition is condition]
        visits = [visit.visit(number) for number, visit in here]
        against = against_strangers(here, cohort)
        if not enough_visitors(visits, point.enrolled_subjects) or not against:
            people = len({number for number, _ in here})
            notes.append(
                f"No point of its own by {condition.value}, from visits of {people} people: the "
                "strictest threshold counts then. Walk up with 'limen calibrate --guided "
                "--by-light'."
            )
            continue
        try:
            found.append(condition_point(point, condition, visits, against, rule))
        except InsufficientEvidenceError as error:
            notes.append(
                f"No point of its own by {condition.value}: {error}. The strictest threshold counts "
                "then."
            )
    if not found:
        raise CalibrationError(
            "a point by day or night needs visits under that condition, of at least "
            f"{min(MIN_VISITORS, point.enrolled_subjects)} people as they are enrolled now: walk up "
            "with 'limen calibrate --guided --by-light'; the old operating point stays"
        )
    return OperatingPoint.model_validate(
        {
            **point.model_dump(),
            "by_light": True,
            "conditions": [each.model_dump() for each in found],
            "notes": (*point.notes, *notes),
        }
    )
