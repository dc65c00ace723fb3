"""A simulated camera at a door: a corridor, a few visits, and the truth about each frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.demo.cutout import Cutout, cut_out
from limen.demo.people import Cast, Person
from limen.demo.scene import HEIGHT_PX, WIDTH_PX, Light, corridor, expose
from limen.demo.script import (
    EYE_LEVEL_PX,
    FRAMES_PER_S,
    Pose,
    Truth,
    Visit,
    frames_of,
    light_at,
    pose_at,
    truths_of,
    usual_script,
)
from limen.detection import Detector
from limen.device.sources import ClosingSource
from limen.device.values import Frame
from limen.errors import NoFaceError


class SimulatedDoorway(ClosingSource):
    """Frames of a script, 640 x 480 px at 10 a second, as a camera's would come.

    The same script and seed give the same frames. `script` has the truth about each, in order.
    Its clock is its own: `captured_at_s` starts at 0 and never waits.
    """

    def __init__(
        self,
        cast: Cast,
        detector: Detector,
        visits: Sequence[Visit] | None = None,
        seed: int = 1,
    ) -> None:
        self._visits = tuple(visits if visits is not None else usual_script(cast))
        self._seed = seed
        self._room = corridor()
        self._cutouts = {
            id(visit.person): door_cutout(visit.person, detector)
            for visit in self._visits
            if visit.person is not None
        }
        self.script: list[Truth] = [
            truth for number, visit in enumerate(self._visits) for truth in truths_of(number, visit)
        ]

    def __iter__(self) -> Iterator[Frame]:
        rng = np.random.default_rng(self._seed)
        sequence = 0
        for visit in self._visits:
            phase = float(rng.uniform(0, 2 * np.pi))
            for step in range(frames_of(visit)):
                share = step / max(1, frames_of(visit) - 1)
                yield Frame(
                    image=self._picture(visit, share, phase, rng),
                    captured_at_s=sequence / FRAMES_PER_S,
                    sequence=sequence,
                )
                sequence += 1

    def _picture(
        self, visit: Visit, share: float, phase: float, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        light = light_at(visit.lights, share)
        flicker = 1 + 0.012 * float(rng.standard_normal())
        scene = self._room * (light.room * flicker)
        blur = 0.5
        if visit.person is not None:
            cutout = self._cutouts[id(visit.person)]
            scene = place(scene, cutout, pose_at(visit, share, phase), light)
            blur = visit.blur_px * (0.7 + 0.5 * abs(np.sin(5 * share + phase)))
        return expose(scene, light, blur, rng)


def door_cutout(person: Person, detector: Detector) -> Cutout:
    """The person as they come to the door: from the last of their pictures that shows a face.

    NoFaceError where none does.
    """
    for picture in reversed(person.pictures):
        try:
            return cut_out(picture, detector, person.outline)
        except NoFaceError:
            continue
    raise NoFaceError(
        f"no face was found in any of {len(person.pictures)} pictures of a person; "
        "bring one that shows them from the front, upright"
    )


def place(
    scene: NDArray[np.float32], cutout: Cutout, pose: Pose, light: Light
) -> NDArray[np.float32]:
    """Stand a person in a scene, (H, W, 3) float32 RGB, with a soft shadow on what is behind."""
    height, width = scene.shape[:2]
    scale = pose.face_px / cutout.face_px
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    colour = cv2.resize(cutout.colour, None, fx=scale, fy=scale, interpolation=method)
    cover = cv2.resize(cutout.cover, None, fx=scale, fy=scale, interpolation=method)
    centre = (cutout.centre_xy[0] * scale, cutout.centre_xy[1] * scale)
    matrix = _in_space(pose, centre)
    shade = 1 - light.side * np.clip(
        (centre[0] + 0.5 * pose.face_px - np.arange(colour.shape[1], dtype=np.float32))
        / pose.face_px, 0, 1,
    )  # fmt: skip
    lit = np.clip(colour * (light.visitor * shade)[None, :, None], 0, 255)
    person = cv2.warpPerspective(lit.astype(np.float32), matrix, (width, height))
    hides = cv2.warpPerspective(cover, matrix, (width, height)).clip(0, 1)
    shadow = cv2.GaussianBlur(hides, (0, 0), 0.16 * pose.face_px)
    return np.asarray(scene * (1 - 0.28 * shadow)[..., None] * (1 - hides)[..., None] + person)


def _in_space(pose: Pose, centre_xy: tuple[float, float]) -> NDArray[np.float64]:
    """The homography of a flat picture turned about the vertical through its face, and tilted."""
    distance = 5.0 * pose.face_px  # of the camera: what makes the far side smaller
    turn, tilt = np.radians(pose.turn_deg), np.radians(pose.tilt_deg)
    to_face = np.array([[1, 0, -centre_xy[0]], [0, 1, -centre_xy[1]], [0, 0, 1.0]])
    turned = np.array([[np.cos(turn), 0, 0], [0, 1, 0], [np.sin(turn) / distance, 0, 1]])
    tilted = np.array(
        [[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1.0]]
    )
    to_place = np.array([[1, 0, pose.centre_xy[0]], [0, 1, pose.centre_xy[1]], [0, 0, 1.0]])
    return np.asarray(to_place @ tilted @ turned @ to_face)


def enrolment_shots(
    person: Person, detector: Detector, n: int = 6, seed: int = 11
) -> list[NDArray[np.uint8]]:
    """`n` pictures to enrol a person from, (HEIGHT_PX, WIDTH_PX, 3) uint8 RGB.

    Each stands against a plain wall, with light, size, turn and tilt of its own, none of them the
    door's. They take the person's pictures in turn, but leave the one at the door out where there
    are others. Pictures without a face are passed over; NoFaceError where none has one.
    """
    pictures = person.pictures[:-1] if len(person.pictures) > 1 else person.pictures
    cutouts = [
        cutout for picture in pictures if (cutout := _try_cut_out(picture, detector, person))
    ]
    if not cutouts:
        cutouts = [door_cutout(person, detector)]
    rng = np.random.default_rng(seed)
    wall = np.linspace(214, 176, HEIGHT_PX, dtype=np.float32)[:, None, None]
    shots = []
    for number in range(n):
        light = Light(
            "enrolment",
            visitor=float(rng.uniform(0.72, 1.08)),
            warmth=float(rng.uniform(-0.4, 0.5)),
            side=float(rng.uniform(0, 0.2)),
            noise=2.0,
        )
        pose = Pose(
            face_px=float(rng.uniform(120, 200)),
            centre_xy=(WIDTH_PX / 2 + float(rng.uniform(-30, 30)), EYE_LEVEL_PX),
            turn_deg=float(rng.uniform(-10, 10)),
            tilt_deg=float(rng.uniform(-4, 4)),
        )
        scene = np.broadcast_to(wall, (HEIGHT_PX, WIDTH_PX, 3)).astype(np.float32)
        placed = place(scene, cutouts[number % len(cutouts)], pose, light)
        shots.append(expose(placed, light, float(rng.uniform(0.3, 0.8)), rng))
    return shots


def _try_cut_out(picture: NDArray[np.uint8], detector: Detector, person: Person) -> Cutout | None:
    try:
        return cut_out(picture, detector, person.outline)
    except NoFaceError:
        return None
