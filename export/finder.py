"""A finder's checkpoint as the part of a bundle: graphs, the proof of them, and their entries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limen.anchors import decode, overlaps
from limen.detection import DetectedFace
from limen.export.errors import ExportError
from limen.export.graphs import BuiltGraph, equivalents_of
from limen.finder import FinderDetector, FinderInput
from limen.manifest import FinderGraph, FinderParity, GraphFinder, Precision, ScalingSpec
from limen.runtimes import open_session
from limen.scaling import SCALING

if TYPE_CHECKING:
    from limen.train.finder.checkpoint import FinderCheckpoint
    from limen.train.finder.network import FinderNetwork
    from limen.train.finder.source import Source

HEIGHT_PX, WIDTH_PX = 256, 320  # a camera's 4:3 at 320 x 240 fits, to whole cells
MIN_CONFIDENCE = 0.64  # docs/finder.md, "How good is it"
RANGE_SCENES, PARITY_SCENES = 160, 200
SAME_FACE = 0.5
BORDERLINE = 0.9  # a face may lose a tenth of its confidence and still count as found


@dataclass(frozen=True, slots=True)
class FinderLimits:
    """Least share of the network's faces that a graph finds, and most landmark error, by the
    distance between the eyes, on average.
    """

    float32: tuple[float, float] = (0.999, 0.001)
    float16: tuple[float, float] = (0.995, 0.005)
    int8: tuple[float, float] = (0.97, 0.02)


@dataclass(frozen=True, slots=True)
class ExportedFinder:
    """What a bundle takes over."""

    entry: GraphFinder
    parts: dict[str, bytes]
    checkpoint: FinderCheckpoint
    provenance: dict[str, Any]


def export_finder(
    checkpoint_path: Path,
    labels: Path,
    *,
    min_confidence: float = MIN_CONFIDENCE,
    size: tuple[int, int] = (HEIGHT_PX, WIDTH_PX),
    seed: int = 0,
    limits: FinderLimits | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> ExportedFinder:
    """Convert a finder's averaged network and hold every graph to it.

    labels: of 'limen label'. int8 ranges come from scenes of its training pictures, the proof from
    scenes of those held out. size: height and width of the graphs' input, px. CheckpointError,
    LabelError, FinderDataError and RuntimeUnavailableError as their causes raise them; ExportError
    where a graph breaks `limits`.
    """
    from limen.export.finder_graphs import build_finder_graphs
    from limen.train.finder.checkpoint import load_finder
    from limen.train.finder.source import open_labelled

    if not 0 < min_confidence < 1:
        raise ExportError(
            f"min_confidence: expected more than 0, less than 1, found {min_confidence}"
        )
    checkpoint = load_finder(checkpoint_path)
    network = checkpoint.network()
    ranges = scenes_of(
        open_labelled(labels, held_out=False), checkpoint, size, RANGE_SCENES, [seed, 0]
    )
    graphs = build_finder_graphs(network, ranges, report)
    held_out = scenes_of(
        open_labelled(labels, held_out=True), checkpoint, size, PARITY_SCENES, [seed, 1]
    )
    report(f"comparing {len(graphs)} graphs of the finder with torch on {len(held_out)} scenes")
    parity = measure_finder(graphs, network, held_out, min_confidence)
    check_finder(graphs, parity, limits or FinderLimits())
    entry = GraphFinder(
        height_px=size[0],
        width_px=size[1],
        scaling=ScalingSpec(mean=SCALING.mean, divisor=SCALING.divisor),
        min_confidence=min_confidence,
        default_precision=DEFAULT_PRECISION,
        graphs=tuple(_entry(graph, graphs) for graph in graphs),
        parity=parity,
    )
    provenance = {
        "checkpoint_sha256": hashlib.sha256(checkpoint_path.read_bytes()).hexdigest(),
        "step": checkpoint.step,
        "recipe": checkpoint.recipe.model_dump(mode="json"),
        "training": checkpoint.provenance,
        "validation": checkpoint.validation,
    }
    return ExportedFinder(
        entry, {graph.path: graph.content for graph in graphs}, checkpoint, provenance
    )


# Float32 is fast enough for a door (docs/finder.md), gives the same landmarks on both runtimes, and
# so one model id: int8 would tie every gallery to the runtime that made it.
DEFAULT_PRECISION: Precision = "float32"


def scenes_of(
    source: Source,
    checkpoint: FinderCheckpoint,
    size: tuple[int, int],
    count: int,
    seed: Sequence[int],
) -> NDArray[np.uint8]:
    """(count, H, W, 3) uint8 RGB: scenes as in training, always the same for a seed."""
    from limen.train.finder.scenes import compose

    settings = checkpoint.recipe.scenes(*size)
    return np.stack(
        [compose(source, settings, np.random.default_rng([*seed, i])).image for i in range(count)]
    )


def measure_finder(
    graphs: Sequence[BuiltGraph],
    network: FinderNetwork,
    pictures: NDArray[np.uint8],
    min_confidence: float,
) -> tuple[FinderParity, ...]:
    """Each graph's faces, on its runtime and through the door's own code, against the network's.

    pictures: (n, H, W, 3) uint8 RGB of the graphs' size. ExportError where the network finds no
    face in any of them.
    """
    height, width = pictures.shape[1:3]
    expected = [_faces_of_network(network, picture, min_confidence) for picture in pictures]
    count = sum(map(len, expected))
    if not count:
        raise ExportError(
            f"the finder finds no face in {len(pictures)} scenes: train it further, or check the "
            "labels"
        )
    rows = []
    for graph in graphs:
        detector = FinderDetector(
            open_session(graph.runtime, graph.content),
            FinderInput(height, width, graph.layout, SCALING),
            graph.path,
            min_confidence * BORDERLINE,
            closer_looks=0,
            doubts=0,
        )
        shared, errors = [], []
        for picture, faces in zip(pictures, expected, strict=True):
            found = detector.detect(picture)
            for face in faces:
                overlap, error = _compare(face, found)
                shared.append(overlap)
                if overlap >= SAME_FACE:
                    errors.append(error)
        seen = np.asarray(shared) >= SAME_FACE
        rows.append(
            FinderParity(
                path=graph.path,
                pictures=len(pictures),
                faces=count,
                found=float(seen.mean()),
                mean_overlap=min(1.0, float(np.asarray(shared)[seen].mean()))
                if seen.any()
                else 0.0,
                mean_landmark_error=float(np.mean(errors)) if errors else 1.0,
            )
        )
    return tuple(rows)


def check_finder(
    graphs: Sequence[BuiltGraph], parity: Sequence[FinderParity], limits: FinderLimits
) -> None:
    """Let the graphs pass, or raise ExportError with every one that is too far off."""
    breaches = []
    for graph, row in zip(graphs, parity, strict=True):
        least, most = getattr(limits, graph.precision)
        if row.found < least or row.mean_landmark_error > most:
            breaches.append(
                f"graph '{row.path}' is not the trained finder: over {row.faces} faces it finds "
                f"{row.found:.4f} (expected {least} or more), landmarks off by "
                f"{row.mean_landmark_error:.4f} of the eyes' distance (expected {most} or less)"
            )
    if breaches:
        raise ExportError("; ".join(breaches) + ": nothing was sealed")


def _faces_of_network(
    network: FinderNetwork, picture: NDArray[np.uint8], min_confidence: float
) -> list[DetectedFace]:
    import torch

    from limen.train.finder.network import answers
    from limen.train.validation import to_input

    with torch.inference_mode():
        found = answers(network(to_input(picture[None])))[0].numpy()
    # At the graphs' threshold, since the cells above it vote for the landmarks: with fewer voters
    # the same answers give other landmarks.
    faces = decode(found, picture.shape[0], picture.shape[1], min_confidence * BORDERLINE)
    return [face for face in faces if face.confidence >= min_confidence]


def _compare(face: DetectedFace, found: Sequence[DetectedFace]) -> tuple[float, float]:
    """Overlap with the best of `found`, and its mean landmark error by the eyes' distance."""
    if not found:
        return 0.0, 1.0
    shared = overlaps(face.box_xyxy, np.stack([other.box_xyxy for other in found]))
    best = found[int(shared.argmax())]
    eyes_px = max(1.0, float(np.linalg.norm(face.landmarks_xy[1] - face.landmarks_xy[0])))
    error = float(np.linalg.norm(best.landmarks_xy - face.landmarks_xy, axis=1).mean()) / eyes_px
    return float(shared.max()), error


def _entry(graph: BuiltGraph, graphs: Sequence[BuiltGraph]) -> FinderGraph:
    return FinderGraph(
        path=graph.path,
        sha256=hashlib.sha256(graph.content).hexdigest(),
        bytes=len(graph.content),
        role="finder",
        runtime=graph.runtime,
        precision=graph.precision,
        layout="NCHW" if graph.layout == "NCHW" else "NHWC",
        equivalents=equivalents_of(graph, graphs),
    )
