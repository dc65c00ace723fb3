"""A small tracker: which face of this frame is which face of the last ones. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.detection import DetectedFace
from limen.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TrackerPolicy:
    """When two faces are one visitor.

    max_gap_s: a track that was not seen for longer has ended; max_step: how far from
    where it was, or was going, a face may be found, in widths of the smaller one; max_growth: by
    what factor it may have grown or shrunk. ConfigError for values out of bounds.
    """

    max_gap_s: float = 0.7
    max_step: float = 0.8
    max_growth: float = 1.6

    def __post_init__(self) -> None:
        if not (0 < self.max_gap_s <= 10 and 0 < self.max_step <= 5 and 1 < self.max_growth <= 4):
            raise ConfigError(
                "tracker: expected max_gap_s up to 10, max_step up to 5 and max_growth of 1 to 4, "
                f"found {self.max_gap_s}, {self.max_step} and {self.max_growth}"
            )


@dataclass(slots=True)
class _Track:
    number: int
    centre: NDArray[np.float64]
    width: float
    velocity: NDArray[np.float64]
    seen_s: float


class Tracker:
    """Numbers tracks from 1; a number is never used twice.

    Each face goes to the track whose predicted place (at constant velocity) is nearest in units of
    the face's width, the closest pair first; a face that no track reaches begins one. A clock that
    goes back ends every track: what is not certain to be one visitor is two.
    """

    def __init__(self, policy: TrackerPolicy | None = None) -> None:
        self._policy = policy or TrackerPolicy()
        self._tracks: list[_Track] = []
        self._next = 1
        self._last_s = -math.inf

    def update(self, faces: Sequence[DetectedFace], now_s: float) -> list[int]:
        """The track of each face, in the order of `faces`. now_s: when the frame was captured."""
        if not now_s >= self._last_s:
            self._tracks = []
        self._last_s = now_s
        self._tracks = [t for t in self._tracks if now_s - t.seen_s <= self._policy.max_gap_s]
        found = [(_centre(face), face.width_px) for face in faces]
        owner: dict[int, _Track] = {}
        for _, index, track in sorted(
            self._reachable(found, now_s), key=lambda pair: (pair[0], pair[1], pair[2].number)
        ):
            if index not in owner and track not in owner.values():
                owner[index] = track
        numbers = []
        for index, (centre, width) in enumerate(found):
            track_of_face = owner.get(index)
            if track_of_face is None:
                numbers.append(self._begin(centre, width, now_s))
            else:
                _move(track_of_face, centre, width, now_s)
                numbers.append(track_of_face.number)
        return numbers

    def part(self, number: int, face: DetectedFace, now_s: float) -> int:
        """End a track whose face turned out to be somebody else's; return their new track."""
        self._tracks = [t for t in self._tracks if t.number != number]
        return self._begin(_centre(face), face.width_px, now_s)

    @property
    def live(self) -> set[int]:
        """The tracks that may still be seen again."""
        return {t.number for t in self._tracks}

    def _begin(self, centre: NDArray[np.float64], width: float, now_s: float) -> int:
        track = _Track(self._next, centre, width, np.zeros(2), now_s)
        self._next += 1
        self._tracks.append(track)
        return track.number

    def _reachable(
        self, found: list[tuple[NDArray[np.float64], float]], now_s: float
    ) -> list[tuple[float, int, _Track]]:
        pairs = []
        for index, (centre, width) in enumerate(found):
            for track in self._tracks:
                passed_s = now_s - track.seen_s
                expected = track.centre + track.velocity * passed_s
                smaller, larger = sorted((max(width, 1e-6), max(track.width, 1e-6)))
                distance = min(
                    float(np.linalg.norm(centre - place)) / smaller
                    for place in (expected, track.centre)
                )
                if distance <= self._policy.max_step and larger / smaller <= (
                    self._policy.max_growth
                ):
                    pairs.append((distance, index, track))
        return pairs


def _move(track: _Track, centre: NDArray[np.float64], width: float, now_s: float) -> None:
    passed_s = now_s - track.seen_s
    if passed_s > 0:
        # Half of the news, half of the past: a finder's boxes jitter.
        track.velocity = 0.5 * track.velocity + 0.5 * (centre - track.centre) / passed_s
    track.centre, track.width, track.seen_s = centre, width, now_s


def _centre(face: DetectedFace) -> NDArray[np.float64]:
    box = face.box_xyxy.astype(np.float64)
    return (box[:2] + box[2:]) / 2
