"""Enrolment: shots are judged one by one, then together, then against everybody enrolled."""

from limen.device.enrolment.advice import Advice, advise
from limen.device.enrolment.lookalikes import Lookalike
from limen.device.enrolment.shots import (
    Shot,
    Shots,
    shots_from_pictures,
    shots_from_source,
    why_refused,
)

__all__ = [
    "Advice",
    "Lookalike",
    "Shot",
    "Shots",
    "advise",
    "shots_from_pictures",
    "shots_from_source",
    "why_refused",
]
