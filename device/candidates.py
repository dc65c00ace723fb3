"""What a board may run: finder and embedder at each precision, runtime and thread count, timed.

Only what agrees is timed. An embedder must give the golden inputs' embeddings within their tolerance
and all their decisions. A finder must find the golden figures where the default graph finds them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limen.anchors import overlaps
from limen.bundle import Bundle
from limen.conformance import replay
from limen.detection import DetectedFace, Detector
from limen.device.racing import figures, frame_of, race, thread_counts
from limen.errors import LimenError
from limen.manifest import FinderParity, GraphFinder
from limen.runtimes import available_runtimes

# A finder's other precisions: what the bundle's parity on real pictures must show, and how far a
# landmark may be from the default graph's here, in distances between the eyes.
MIN_FOUND, MAX_PARITY_ERROR, MAX_LANDMARK_ERROR = 0.99, 0.02, 0.10
SURE = 0.1  # of confidence above the finder's minimum: a face that every precision must find


@dataclass(frozen=True, slots=True)
class Timed:
    """A graph on so many threads. median_ms: None where it was not timed; reason: then why."""

    role: Literal["finder", "embedder"]
    path: str
    runtime: str
    precision: str
    threads: int
    median_ms: float | None
    rounds: int = 0
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def time_embedders(
    bundle: Bundle, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[Timed]:
    """Every embedder's graph by threads: replayed on the golden inputs, then timed if it conforms."""
    detector = bundle.detector()
    crop = np.random.default_rng(0).integers(
        0, 256, (1, bundle.manifest.input.px, bundle.manifest.input.px, 3), dtype=np.uint8
    )
    gate = bundle.manifest.gate
    breached = {row.path for row in gate.graphs if row.breaches} if gate is not None else set()
    rows: dict[tuple[str, int], Timed] = {}
    runners: dict[tuple[str, int], Callable[[], object]] = {}
    graphs = {graph.path: graph for graph in bundle.manifest.graphs}
    for threads in thread_counts():
        for found in replay(bundle, threads):
            if found.path not in graphs:  # the finder's graphs are replayed too
                continue
            key = (found.path, threads)
            reason = found.reason if found.outcome != "conforms" else ""
            if found.path in breached:
                reason = "it broke a limit when it was exported"
            rows[key] = Timed(
                *("embedder", found.path, found.runtime, found.precision, threads, None),
                reason=reason,
            )
            if not reason:
                embedder = bundle.embedder_of(graphs[found.path], detector, threads)
                runners[key] = partial(embedder.embed, crop)
    return _with_times(rows, race(runners, seconds, clock))


def time_finders(
    bundle: Bundle, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[Timed]:
    """Every finder's graph by threads: held against the default one on golden figures, then timed.

    Empty where the bundle carries no finder of limen's own.
    """
    finder = bundle.manifest.finder
    if not isinstance(finder, GraphFinder):
        return []
    reference = bundle.detector()
    frames = [frame_of(figure) for figure in figures(bundle)]
    expected = [_sure(reference.detect(frame), finder.min_confidence) for frame in frames]
    with_face = next((f for f, faces in zip(frames, expected, strict=True) if faces), frames[0])
    parity = {row.path: row for row in finder.parity}
    rows: dict[tuple[str, int], Timed] = {}
    runners: dict[tuple[str, int], Callable[[], object]] = {}
    for graph in finder.graphs:
        if graph.runtime not in available_runtimes():
            continue
        for threads in thread_counts():
            reason, key = "", (graph.path, threads)
            try:
                detector = bundle.detector_of(graph, threads)
                if detector.detector_id != reference.detector_id:
                    reason = _unproven(parity.get(graph.path))
                if not reason:
                    reason = _differs(detector, frames, expected)
            except LimenError as error:
                reason = str(error)
            rows[key] = Timed(
                *("finder", graph.path, graph.runtime, graph.precision, threads, None),
                reason=reason,
            )
            if not reason:
                runners[key] = partial(detector.detect, with_face)
    return _with_times(rows, race(runners, seconds, clock))


def _unproven(parity: FinderParity | None) -> str:
    """Why another precision than the default is not trusted; '' where the bundle's parity is good."""
    good = (
        parity is not None
        and parity.found >= MIN_FOUND
        and parity.mean_landmark_error <= MAX_PARITY_ERROR
    )
    return "" if good else "the bundle does not show that it finds what the default finds"


def _sure(faces: list[DetectedFace], min_confidence: float) -> list[DetectedFace]:
    return [face for face in faces if face.confidence >= min_confidence + SURE]


def _differs(
    detector: Detector,
    frames: Sequence[NDArray[np.uint8]],
    expected: Sequence[list[DetectedFace]],
) -> str:
    """How a finder disagrees with the default graph on the golden figures; '' where it does not."""
    if not any(expected):
        return "the default graph finds no golden figure, so agreement cannot be checked"
    for frame, faces in zip(frames, expected, strict=True):
        found = detector.detect(frame) if faces else []
        for face in faces:
            if not found:
                return "it does not find a golden figure"
            shared = overlaps(face.box_xyxy, np.stack([other.box_xyxy for other in found]))
            other = found[int(shared.argmax())]
            eyes = float(np.linalg.norm(face.landmarks_xy[0] - face.landmarks_xy[1]))
            error = np.linalg.norm(face.landmarks_xy - other.landmarks_xy, axis=1).mean()
            if not error <= MAX_LANDMARK_ERROR * eyes:
                return f"a landmark is {error / eyes:.2f} eye distances off"
    return ""


def _with_times(
    rows: Mapping[tuple[str, int], Timed], took: Mapping[tuple[str, int], list[float]]
) -> list[Timed]:
    return [
        Timed(
            *(row.role, row.path, row.runtime, row.precision, row.threads),
            median_ms=1000 * statistics.median(took[key]) if key in took else None,
            rounds=len(took.get(key, ())),
            reason=row.reason,
        )
        for key, row in rows.items()
    ]
