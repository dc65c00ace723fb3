"""Shots for an enrolment: what is good enough to be a reference, and why the rest is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.detection import Detector
from limen.device.sources import open_source
from limen.embedder import Embedder
from limen.errors import NoFaceError
from limen.folder import FailureToAcquire, acquire_file
from limen.recognition import FaceSample, acquire

MIN_QUALITY = 0.25
MAX_FRAMES_A_SHOT = 100
SHOT_INTERVAL_S = 0.5
GUIDED_INTERVAL_S = 2.0
# References that differ as the visits will (ISO/IEC 29794-5 asks for the frontal ones first).
GUIDANCE = (
    "look at the camera",
    "turn your head a little to the left",
    "turn your head a little to the right",
    "come half a step closer",
    "put your glasses on, or take them off",
    "step back, and look at the camera again",
)


@dataclass(frozen=True, slots=True)
class Shot:
    """An accepted shot; name: the file, or the frame's number."""

    name: str
    sample: FaceSample


@dataclass(frozen=True, slots=True)
class Shots:
    """What an enrolment was given."""

    accepted: tuple[Shot, ...]
    refused: tuple[FailureToAcquire, ...]

    def embeddings(self) -> NDArray[np.float32]:
        """(k, D) float32, unit norm, k >= 1."""
        return np.stack([shot.sample.embedding for shot in self.accepted])

    def qualities(self) -> list[float]:
        """One a shot, 0 to 1."""
        return [shot.sample.quality for shot in self.accepted]


def why_refused(sample: FaceSample, one_face: bool) -> str | None:
    """Why a sample should not become a reference; None where it may."""
    if one_face and sample.faces > 1:
        return (
            f"{sample.faces} faces are in the picture; enrol from one with a single person, "
            "or take the nearest with --nearest"
        )
    if sample.quality < MIN_QUALITY:
        return (
            f"quality {sample.quality:.2f} is below {MIN_QUALITY}: come closer, hold still, "
            "and face the light"
        )
    return None


def shots_from_pictures(
    paths: Sequence[Path], detector: Detector, embedder: Embedder, *, one_face: bool = True
) -> Shots:
    """Judge every picture; a bad one is refused with its reason and ends nothing."""
    accepted: list[Shot] = []
    refused: list[FailureToAcquire] = []
    for path in paths:
        result = acquire_file(path, detector, embedder)
        if isinstance(result, FailureToAcquire):
            refused.append(result)
        elif reason := why_refused(result, one_face):
            refused.append(FailureToAcquire(str(path), reason))
        else:
            accepted.append(Shot(str(path), result))
    return Shots(tuple(accepted), tuple(refused))


def shots_from_source(
    source: str,
    detector: Detector,
    embedder: Embedder,
    shots: int,
    *,
    one_face: bool = True,
    guide: Callable[[str], None] | None = None,
) -> Shots:
    """Take `shots` good frames, half a second apart, from a source as `open_source` names it.

    guide: told what the person should do before each shot; shots are then two seconds apart, to
    leave time for it. Frames that will not do are passed over; the last reason is reported when too
    few came. SourceError where the source cannot be opened.
    """
    interval_s = SHOT_INTERVAL_S if guide is None else GUIDED_INTERVAL_S
    accepted: list[Shot] = []
    reason = "the source ended before a face was seen"
    last_taken_s = -np.inf
    told = 0
    with open_source(source) as frames:
        for number, frame in enumerate(frames):
            if len(accepted) == shots or number >= shots * MAX_FRAMES_A_SHOT:
                break
            if guide is not None and told == len(accepted):
                guide(GUIDANCE[told % len(GUIDANCE)])
                told += 1
                last_taken_s = frame.captured_at_s
            if frame.captured_at_s - last_taken_s < interval_s:
                continue
            try:
                sample = acquire(frame.image, detector, embedder)
            except NoFaceError as error:
                reason = str(error)
                continue
            if refusal := why_refused(sample, one_face):
                reason = refusal
                continue
            accepted.append(Shot(f"frame {frame.sequence}", sample))
            last_taken_s = frame.captured_at_s
    missing = shots - len(accepted)
    refused = (FailureToAcquire(f"{missing} of {shots} shots", reason),) if missing else ()
    return Shots(tuple(accepted), refused)
