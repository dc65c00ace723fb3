"""A visit that was asked for: an enrolled person walks up to the camera, and nothing opens.

The visit is followed by the door's own code, so its scores are those that the runtime compares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.conditions import Condition, condition_of, light_level
from limen.detection import Detector
from limen.device.following import FaceRule, Follower, FollowPolicy, scaled_faces
from limen.device.values import Frame
from limen.embedder import Embedder


@dataclass(frozen=True, slots=True)
class VisitPolicy:
    """How a visit is watched: as the door would, with one face in view.

    probe_frames: frames fused into a probe; seconds: how long, from the first face; patience_s: how
    long a first face is awaited.
    """

    probe_frames: int = 1
    min_quality: float = 0.0
    min_face_px: float = 0.0
    seconds: float = 10.0
    patience_s: float = 20.0


@dataclass(frozen=True, slots=True)
class SeenVisit:
    """What the camera saw of a visit. Lives in memory only, and holds no picture.

    probes: (f, D) float32, the fused probe of each look, zeros where none was acquired; acquired,
    at_s, track: (f,); condition: that of most looks; light: median grey level, 0 to 255; width_px:
    median width of the face; crowded: looks with more than one face, which count as not acquired.
    """

    probes: NDArray[np.float32]
    acquired: NDArray[np.bool_]
    at_s: NDArray[np.float64]
    track: NDArray[np.int64]
    condition: Condition
    light: float
    width_px: float
    crowded: int


def watch_visit(
    frames: Iterable[Frame], detector: Detector, embedder: Embedder, policy: VisitPolicy
) -> SeenVisit | None:
    """Watch one visit, until its time is over or the frames end.

    None where no face came within the patience: nobody walked up, which is no failure to acquire.
    """
    follower = Follower(
        embedder,
        FollowPolicy(rule=FaceRule.ONE, shots=max(1, min(50, policy.probe_frames))),
        min_quality=policy.min_quality,
        min_face_px=policy.min_face_px,
    )
    began_s: float | None = None
    first_s: float | None = None
    looks: list[tuple[NDArray[np.float32] | None, float, int, float, bool]] = []
    conditions: Counter[Condition] = Counter()
    light: list[float] = []
    for frame in frames:
        now_s = frame.captured_at_s
        began_s = now_s if began_s is None else began_s
        if first_s is None and now_s - began_s > policy.patience_s:
            break
        if first_s is not None and now_s - first_s > policy.seconds:
            break
        picture = frame.small if frame.small is not None else frame.image
        faces = detector.detect(picture)
        if frame.small is not None:
            height, width = frame.image.shape[:2]
            faces = scaled_faces(faces, width / frame.small.shape[1], height / frame.small.shape[0])
        for shot in follower.follow(frame.image, faces, now_s, policy.probe_frames):
            if shot.sample is None and not shot.poor:
                continue  # a better shot is awaited: not a look
            first_s = now_s if first_s is None else first_s
            probe = shot.sample.embedding if shot.sample is not None else None
            looks.append((probe, now_s - first_s, shot.track, shot.face.width_px, shot.faces > 1))
            conditions[condition_of(frame.image)] += 1
            light.append(light_level(frame.image))
    if not looks:
        return None
    probes, at_s, tracks, widths, crowds = zip(*looks, strict=True)
    size = next((len(probe) for probe in probes if probe is not None), 0)
    rows = [probe if probe is not None else np.zeros(size, np.float32) for probe in probes]
    return SeenVisit(
        probes=np.stack(rows).astype(np.float32),
        acquired=np.array([probe is not None for probe in probes]),
        at_s=np.array(at_s),
        track=np.array(tracks),
        condition=conditions.most_common(1)[0][0],
        light=float(np.median(light)),
        width_px=float(np.median(widths)),
        crowded=sum(crowds),
    )
