"""The script of the simulated door: who comes, in what light, how close, how turned. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from limen.demo.people import Cast, Person
from limen.demo.scene import BACKLIT, DIM, EVEN, NIGHT, WARM, WIDTH_PX, Light

FRAMES_PER_S = 10.0
EYE_LEVEL_PX = 206.0  # where the middle of a visitor's face is, from the top


class Presence(StrEnum):
    """Who stands at the door, in truth."""

    NOBODY = "nobody"
    ENROLLED = "enrolled"
    STRANGER = "stranger"
    UNKNOWN = "unknown"  # a live camera: nobody wrote the truth down


@dataclass(frozen=True, slots=True)
class Visit:
    """A stretch of the script.

    from_px, to_px: width of the face when the visit begins and once the person has come close;
    lights: what the light does meanwhile, in equal parts; turn_deg: yaw, and tilt_deg: roll, at
    the widest swing; blur_px: of an unsteady or unfocused camera.
    """

    presence: Presence
    seconds: float
    person: Person | None = None
    from_px: float = 72.0
    to_px: float = 190.0
    lights: tuple[Light, ...] = (EVEN,)
    turn_deg: float = 14.0
    tilt_deg: float = 6.0
    blur_px: float = 0.9


@dataclass(frozen=True, slots=True)
class Truth:
    """What a frame really shows.

    visit: its number in the script; face_px: None without a person.
    """

    visit: int
    presence: Presence
    name: str | None
    conditions: str
    face_px: float | None


@dataclass(frozen=True, slots=True)
class Pose:
    """Where and how a person is in the picture."""

    face_px: float
    centre_xy: tuple[float, float]
    turn_deg: float = 0.0
    tilt_deg: float = 0.0


def usual_script(cast: Cast) -> tuple[Visit, ...]:
    """Nobody, the enrolled person in changing light, strangers, the enrolled person in the dark."""
    empty = Visit(Presence.NOBODY, 4.0)
    strangers = [
        visit
        for person in cast.strangers
        for visit in (
            Visit(Presence.STRANGER, 5.5, person, lights=(EVEN, DIM, WARM), to_px=185.0),
            empty,
        )
    ]
    return (
        Visit(Presence.NOBODY, 2.0),
        Visit(Presence.ENROLLED, 5.6, cast.enrolled, lights=(EVEN, WARM, DIM, BACKLIT)),
        empty,
        *strangers,
        Visit(
            Presence.ENROLLED, 5.0, cast.enrolled, from_px=84.0, to_px=178.0,
            lights=(NIGHT,), turn_deg=10.0, tilt_deg=8.0, blur_px=1.1,
        ),
        Visit(Presence.NOBODY, 4.0, lights=(NIGHT,)),
    )  # fmt: skip


def frames_of(visit: Visit) -> int:
    """How many frames a visit lasts, one or more."""
    return max(1, round(visit.seconds * FRAMES_PER_S))


def light_at(lights: Sequence[Light], share: float) -> Light:
    """The light at a share of a visit: each holds for most of its part, then gives way."""
    position = share * len(lights)
    number = min(len(lights) - 1, int(position))
    if number == len(lights) - 1:
        return lights[number]
    return lights[number].towards(
        lights[number + 1], float(np.clip((position - number - 0.6) / 0.4, 0, 1))
    )


def pose_at(visit: Visit, share: float, phase: float) -> Pose:
    """Coming closer for two thirds of a visit, then standing; the head moves all the while."""
    near = float(np.clip(share / 0.68, 0, 1))
    near = near * near * (3 - 2 * near)
    swing = 2 * np.pi * share
    return Pose(
        # Who walks closer grows by ratios, not by differences.
        face_px=float(visit.from_px * (visit.to_px / visit.from_px) ** near),
        centre_xy=(
            WIDTH_PX / 2 + float(26 * np.sin(swing * 1.1 + phase) * (1 - 0.5 * near)),
            EYE_LEVEL_PX + float(5 * np.sin(swing * 4) * (1 - near)),
        ),
        turn_deg=float(visit.turn_deg * np.sin(swing * 1.3 + phase)),
        tilt_deg=float(visit.tilt_deg * np.sin(swing * 1.7 + 0.5 * phase)),
    )


def truths_of(number: int, visit: Visit) -> list[Truth]:
    """The truth about each frame of a visit, in order."""
    frames = frames_of(visit)
    truths = []
    for step in range(frames):
        share = step / max(1, frames - 1)
        present = visit.person is not None
        truths.append(
            Truth(
                visit=number,
                presence=visit.presence,
                name=visit.person.name if visit.person else None,
                conditions=light_at(visit.lights, share).name,
                face_px=pose_at(visit, share, 0.0).face_px if present else None,
            )
        )
    return truths
