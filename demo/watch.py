"""Watching the door: frames through the real door, each annotated and kept as a moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from limen.demo.annotate import annotate
from limen.demo.script import Presence, Truth
from limen.demo.story import Moment, live_truths, moment_of
from limen.detection import Detector
from limen.device.admission import Admitter
from limen.device.config import DoorConfig
from limen.device.door import Door, DoorStep
from limen.device.lock import SimulatedLock
from limen.device.recogniser import Recogniser
from limen.device.runtime import run_door
from limen.device.sources import FrameClock, FrameSource
from limen.device.values import Verdict
from limen.embedder import Embedder
from limen.errors import SourceError
from limen.images import encode_jpeg

LIVE_S = 30.0

Report = Callable[[str], None]

_UNWRITTEN = Truth(0, Presence.UNKNOWN, None, "as it was", None)


@dataclass(frozen=True, slots=True)
class DoorParts:
    """What the door at hand is made of; all else is as a new door's configuration has it."""

    detector: Detector
    embedder: Embedder
    recogniser: Recogniser


def watch(
    source: FrameSource,
    script: Sequence[Truth] | None,
    parts: DoorParts,
    frames: Path,
    report: Report,
) -> list[Moment]:
    """Run a door with a simulated lock over `source`, which is closed afterwards.

    script: the truth about each frame, in order; without one, a live source is watched for LIVE_S
    seconds and its visits are told apart by their faces. Each frame is annotated and written to
    `frames` as a JPEG. SourceError where no frame came.
    """
    clock = FrameClock(source)
    diary = _Diary(script, frames, report)
    defaults = DoorConfig()
    door = Door(
        parts.detector,
        parts.embedder,
        parts.recogniser,
        Admitter(defaults.admission_policy()),
        SimulatedLock(clock),
        unlock_for_s=defaults.unlock_for_s,
        min_quality=defaults.min_quality,
        min_face_px=defaults.min_face_px,
    )
    run_door(clock, door, on_step=diary.keep, stop=diary.is_full)
    if not diary.moments:
        raise SourceError("the source gave no frame: check the camera, or the file")
    return diary.finished()


class _Diary:
    """Keeps each step, as a moment and as an annotated picture."""

    def __init__(self, script: Sequence[Truth] | None, frames: Path, report: Report) -> None:
        self._script = script
        self._frames = frames
        self._report = report
        self._start_s: float | None = None
        self.moments: list[Moment] = []

    def keep(self, step: DoorStep) -> None:
        if self._start_s is None:
            self._start_s = step.frame.captured_at_s
        number = len(self.moments)
        path = self._frames / f"{number:04d}.jpg"
        moment = moment_of(
            self._script[number] if self._script is not None else _UNWRITTEN,
            step.decision,
            step.admission,
            step.sample,
            at_s=step.frame.captured_at_s - self._start_s,
            locked=step.locked,
            picture=path,
        )
        path.write_bytes(encode_jpeg(annotate(step.frame.image, moment)))
        self.moments.append(moment)
        if moment.verdict is not Verdict.WAIT:
            word = "opens" if moment.verdict is Verdict.OPEN else "refuses"
            self._report(f"  {moment.at_s:5.1f} s  the door {word}")

    def is_full(self) -> bool:
        """Whether a live source was watched for long enough; a script ends by itself."""
        return self._script is None and bool(self.moments) and self.moments[-1].at_s >= LIVE_S

    def finished(self) -> list[Moment]:
        if self._script is not None:
            return self.moments
        truths = live_truths([m.at_s if m.acquired else None for m in self.moments])
        return [
            replace(moment, truth=truth) for moment, truth in zip(self.moments, truths, strict=True)
        ]
