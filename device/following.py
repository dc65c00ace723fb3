"""Faces over time: whom the door looks at, which shots are embedded, and what they make together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from limen.alignment import align
from limen.detection import DetectedFace
from limen.device.shot_quality import shot_quality
from limen.device.tracker import Tracker, TrackerPolicy
from limen.embedder import Embedder
from limen.errors import ConfigError, PictureError
from limen.recognition import FaceSample


class FaceRule(StrEnum):
    """Which of several faces counts.

    ONE: nobody while several are in view; NEAREST: the largest; ALL: each on its own.
    """

    ONE = "one"
    NEAREST = "nearest"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class FollowPolicy:
    """How faces are followed.

    shots: how many embeddings make a probe, the frame's own and the track's best others;
    good_enough: a shot is embedded where its quality is at least so much of the track's best, and
    at the latest every `wait_s`; same: cosine below which a new shot is not the same person as the
    track's, which then ends. ConfigError for values out of bounds.
    """

    rule: FaceRule = FaceRule.NEAREST
    shots: int = 5
    good_enough: float = 0.8
    wait_s: float = 0.4
    same: float = 0.1
    max_faces: int = 8
    tracker: TrackerPolicy = field(default_factory=TrackerPolicy)

    def __post_init__(self) -> None:
        if not (1 <= self.shots <= 50 and 1 <= self.max_faces <= 50):
            raise ConfigError(
                f"shots and max_faces: expected 1 to 50, found {self.shots} and {self.max_faces}"
            )
        if not (0 <= self.good_enough <= 1 and 0 < self.wait_s <= 10 and -1 <= self.same < 1):
            raise ConfigError(
                "expected good_enough of 0 to 1, wait_s up to 10 and same of -1 to 1, found "
                f"{self.good_enough}, {self.wait_s} and {self.same}"
            )


@dataclass(frozen=True, slots=True)
class TrackedShot:
    """A face of this frame on its track.

    sample: its embedding is this frame's own, fused with the track's best others, so that no two
    frames of a track give the same probe; None where the frame's shot was not embedded, because a
    better one is expected, or it is too poor (`poor`).
    """

    track: int
    face: DetectedFace
    quality: float
    faces: int
    sample: FaceSample | None
    poor: bool = False


@dataclass(slots=True)
class _Gathered:
    """The best shots of a track, (quality, embedding) each."""

    shots: list[tuple[float, NDArray[np.float32]]]
    best: float = 0.0
    embedded_s: float = -np.inf


class Follower:
    """Follows the faces of one camera and embeds their best shots.

    min_quality, min_face_px: a worse or smaller face is never embedded: a poor shot.
    """

    def __init__(
        self,
        embedder: Embedder,
        policy: FollowPolicy | None = None,
        *,
        min_quality: float = 0.0,
        min_face_px: float = 0.0,
    ) -> None:
        self._embedder = embedder
        self._policy = policy or FollowPolicy()
        self._min_quality = min_quality
        self._min_face_px = min_face_px
        self._tracker = Tracker(self._policy.tracker)
        self._gathered: dict[int, _Gathered] = {}

    @property
    def policy(self) -> FollowPolicy:
        """The policy in force."""
        return self._policy

    def reconfigure(self, policy: FollowPolicy, min_quality: float, min_face_px: float) -> None:
        """Go on under another policy; tracks and their shots stay."""
        self._policy, self._min_quality, self._min_face_px = policy, min_quality, min_face_px

    def clear(self) -> None:
        """Forget every track, as when the camera was another for a while."""
        self._tracker = Tracker(self._policy.tracker)
        self._gathered.clear()

    def follow(
        self,
        image: NDArray[np.uint8],
        faces: list[DetectedFace],
        now_s: float,
        most_shots: int | None = None,
    ) -> Iterator[TrackedShot]:
        """The shots that count, by the rule, the largest face first.

        image: (H, W, 3) uint8 RGB; faces: in its pixels, largest first; now_s: when captured;
        most_shots: fuse no more than these, whatever the policy: what was calibrated for.
        """
        most = self._policy.shots if most_shots is None else min(self._policy.shots, most_shots)
        numbers = self._tracker.update(faces, now_s)
        live = self._tracker.live
        self._gathered = {n: g for n, g in self._gathered.items() if n in live}
        counting = list(zip(numbers, faces, strict=True))
        if self._policy.rule is FaceRule.NEAREST:
            counting = counting[:1]
        elif self._policy.rule is FaceRule.ONE and len(counting) > 1:
            # Told of, for the admitter to take back votes, but not worth an embedding.
            number, face = counting[0]
            yield TrackedShot(number, face, 0.0, len(faces), None, poor=True)
            return
        for number, face in counting[: self._policy.max_faces]:
            yield self._shot(image, number, face, len(faces), now_s, most)

    def _shot(
        self,
        image: NDArray[np.uint8],
        number: int,
        face: DetectedFace,
        faces: int,
        now_s: float,
        most: int,
    ) -> TrackedShot:
        gathered = self._gathered.setdefault(number, _Gathered([]))
        try:
            crop = align(image, face.landmarks_xy)
        except PictureError:
            return TrackedShot(number, face, 0.0, faces, None, poor=True)
        quality = shot_quality(face, crop).total
        if quality < self._min_quality or face.width_px < self._min_face_px:
            return TrackedShot(number, face, quality, faces, None, poor=True)
        due = now_s - gathered.embedded_s >= self._policy.wait_s
        if quality < self._policy.good_enough * gathered.best and not due:
            return TrackedShot(number, face, quality, faces, None)
        embedding = self._embedder.embed(crop[None])[0]
        if gathered.shots and float(_fused(gathered.shots) @ embedding) < self._policy.same:
            # Somebody stepped into the track: their shots must not ride on the other's.
            del self._gathered[number]
            number = self._tracker.part(number, face, now_s)
            gathered = self._gathered.setdefault(number, _Gathered([]))
        # The frame's own shot is always in its probe: were it only the track's best, frames poorer
        # than those would repeat one probe, and n votes would rest on one lucky picture.
        others = gathered.shots[: most - 1]
        probe = _fused([(quality, embedding), *others])
        gathered.embedded_s = now_s
        gathered.best = max(gathered.best, quality)
        gathered.shots.append((quality, embedding))
        gathered.shots.sort(key=lambda shot: -shot[0])
        del gathered.shots[self._policy.shots :]
        sample = FaceSample(
            face=face,
            crop=crop,
            embedding=probe,
            quality=quality,
            faces=faces,
        )
        return TrackedShot(number, face, quality, faces, sample)


def _fused(shots: list[tuple[float, NDArray[np.float32]]]) -> NDArray[np.float32]:
    """The unit-norm mean of the embeddings, (D,) float32, weighted by quality."""
    total = np.sum([max(quality, 1e-3) * embedding for quality, embedding in shots], axis=0)
    norm = float(np.linalg.norm(total))
    return np.asarray(total / norm if norm > 1e-6 else shots[0][1], np.float32)


def scaled_faces(faces: list[DetectedFace], by_x: float, by_y: float) -> list[DetectedFace]:
    """Faces that were found in a small picture, in the pixels of a large one."""
    by = np.array([by_x, by_y], np.float32)
    return [
        replace(
            face,
            box_xyxy=(face.box_xyxy * np.tile(by, 2)).astype(np.float32),
            landmarks_xy=(face.landmarks_xy * by).astype(np.float32),
        )
        for face in faces
    ]
