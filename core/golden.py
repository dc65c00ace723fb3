"""Golden inputs: pictures of nobody, with what every board must make of them.

The pictures are drawn by a formula, face-like enough to be aligned and to reach every layer, and
show no person. A bundle carries them, so that a board replays the very pixels of the export,
whatever the formula becomes: align by the landmarks, embed, compare each with each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.alignment import CROP_PX, TEMPLATE_XY, align
from limen.arrays import pack_arrays, unpack_arrays
from limen.embedder import Embedder
from limen.errors import BundleError
from limen.manifest import FinderExpectation, Golden, GoldenExpectation, Precision

GOLDEN_FILE = "golden.npz"
PICTURE_PX = 48
FIGURES, TAKES = 5, 3

# How far an embedding may lie from the stored one, of unit length. Runtimes sum in other orders on
# other processors: float32 differed by 2e-6 between x86 and emulated ARM. An int8 network may round
# a step to the other side, and the layers behind it widen that: for TFLite, what is measured between
# the runtime's own kernels at export decides, where it is more (docs/bundle.md, "Look, compare, replay").
MAX_DISTANCE: Mapping[Precision, float] = {"float32": 1e-3, "float16": 5e-3, "int8": 5e-2}
LEAST_TOO_CLOSE = 1e-4
KERNEL_ALLOWANCE = 2.0  # times what two kernels on one machine differ by
_FEWEST_ON_A_SIDE = 4


@dataclass(frozen=True, slots=True)
class GoldenInputs:
    """pictures: (n, P, P, 3) uint8 RGB; landmarks_xy: (n, 5, 2) float32 px."""

    pictures: NDArray[np.uint8]
    landmarks_xy: NDArray[np.float32]

    def crops(self, px: int) -> NDArray[np.uint8]:
        """Aligned as at the door, (n, px, px, 3) uint8 RGB."""
        pairs = zip(self.pictures, self.landmarks_xy, strict=True)
        return np.stack([align(picture, landmarks, px) for picture, landmarks in pairs])


def draw_golden_inputs() -> GoldenInputs:
    """Five figures, three times each under other light, pose and noise."""
    drawn = [_draw(figure, take) for figure in range(FIGURES) for take in range(TAKES)]
    return GoldenInputs(
        np.stack([picture for picture, _ in drawn]), np.stack([points for _, points in drawn])
    )


def expectation(
    path: str,
    precision: Precision,
    embeddings: NDArray[np.float32],
    otherwise: NDArray[np.float32] | None = None,
) -> GoldenExpectation:
    """What a graph must do, from its embeddings of the inputs, (n, D) of unit norm.

    otherwise: its embeddings by other kernels of the same runtime, where there are any; they widen
    what is allowed. The threshold lies in the widest gap between the scores of all pairs, a few of
    them on either side. BundleError where, without other kernels, no pair is clear of it on each
    side: the graph tells nobody from anybody.
    """
    scores = pair_scores(embeddings)
    distance, moved = 0.0, 0.0
    if otherwise is not None:
        distance = float(np.linalg.norm(embeddings - otherwise, axis=1).max())
        moved = float(np.abs(pair_scores(otherwise) - scores).max())
    ordered = np.sort(scores)
    gaps = np.diff(ordered)[_FEWEST_ON_A_SIDE - 1 : len(ordered) - _FEWEST_ON_A_SIDE]
    place = _FEWEST_ON_A_SIDE - 1 + int(gaps.argmax())
    threshold = float(np.round((ordered[place] + ordered[place + 1]) / 2, 6))
    too_close = max(LEAST_TOO_CLOSE, KERNEL_ALLOWANCE * moved)
    # Kernels that differ by more than a network tells apart leave no decision; that is its int8's
    # fault, which the gate judges, and not a reason to refuse its golden inputs.
    clear = scores[np.abs(scores - threshold) > too_close]
    if otherwise is None and not (clear.max(initial=-2) > threshold > clear.min(initial=2)):
        raise BundleError(
            f"graph '{path}' scores all golden inputs alike ({ordered[0]:.4f} to "
            f"{ordered[-1]:.4f}): it tells nobody from anybody"
        )
    return GoldenExpectation(
        path=path,
        threshold=threshold,
        too_close=round(too_close, 6),
        max_distance=round(max(MAX_DISTANCE[precision], KERNEL_ALLOWANCE * distance), 6),
    )


def pair_scores(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines of all pairs of (n, D) unit-norm embeddings, (n (n - 1) / 2,), in a fixed order."""
    values = embeddings.astype(np.float64)
    first, second = np.triu_indices(len(values), 1)
    return np.asarray((values[first] * values[second]).sum(1), np.float64)


def encode_golden(
    inputs: GoldenInputs,
    expected: Mapping[str, NDArray[np.float32]],
    finder: Mapping[str, NDArray[Any]] | None = None,
) -> bytes:
    """The part of a bundle. expected: (n, D) embeddings by graph; finder: arrays of its answers."""
    arrays: dict[str, NDArray[Any]] = {
        "pictures": inputs.pictures,
        "landmarks_xy": inputs.landmarks_xy,
    }
    arrays |= {f"embeddings/{p}": rows for p, rows in sorted(expected.items())}
    return pack_arrays(arrays | dict(sorted((finder or {}).items())))


def decode_golden(
    content: bytes | memoryview, golden: Golden, embedding_size: int
) -> tuple[GoldenInputs, dict[str, NDArray[np.float32]]]:
    """Read the part again. BundleError where it is damaged or not what the manifest says."""
    arrays = unpack_arrays(content, "the golden inputs")
    count = golden.inputs
    shapes: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        "landmarks_xy": ((count, 5, 2), np.float32),
        **{
            f"embeddings/{row.path}": ((count, embedding_size), np.float32)
            for row in golden.expected
        },
    }
    pictures = arrays.get("pictures")
    if pictures is None or pictures.dtype != np.uint8 or pictures.ndim != 4:
        raise BundleError("the golden inputs hold no pictures; copy the bundle again")
    if len(pictures) != count or pictures.shape[3] != 3 or 0 in pictures.shape:
        raise BundleError(f"the golden inputs have shape {pictures.shape}, expected {count} RGB")
    for name, (shape, kind) in shapes.items():
        found = arrays.get(name)
        if found is None or found.shape != shape or found.dtype != kind:
            raise BundleError(f"the golden inputs lack '{name}' {shape}; copy the bundle again")
        if not np.isfinite(found).all():
            raise BundleError(f"the golden inputs hold no numbers in '{name}'")
    expected = {row.path: arrays[f"embeddings/{row.path}"] for row in golden.expected}
    return GoldenInputs(pictures, arrays["landmarks_xy"]), expected


def make_golden(
    embedders: Mapping[str, tuple[Precision, Embedder]],
    px: int,
    other_kernels: Mapping[str, Embedder] | None = None,
    finder: Sequence[tuple[FinderExpectation, Mapping[str, NDArray[Any]]]] = (),
) -> tuple[bytes, Golden]:
    """Draw the inputs, run every graph on them, and return the part and its manifest entry.

    embedders: precision and embedder by the graph's path; other_kernels: the same graphs on other
    kernels, for those that have them; finder: what its graphs must answer, of
    `limen.golden_finder.finder_expectation`.
    """
    inputs = draw_golden_inputs()
    crops = inputs.crops(px)
    embeddings = {path: embedder.embed(crops) for path, (_, embedder) in embedders.items()}
    otherwise = {path: e.embed(crops) for path, e in (other_kernels or {}).items()}
    answers = {name: rows for _, arrays in finder for name, rows in arrays.items()}
    content = encode_golden(inputs, embeddings, answers)
    entry = Golden(
        path=GOLDEN_FILE,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        inputs=len(crops),
        expected=tuple(
            expectation(path, precision, embeddings[path], otherwise.get(path))
            for path, (precision, _) in embedders.items()
        ),
        finder=tuple(entry for entry, _ in finder),
    )
    return content, entry


def _draw(figure: int, take: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One figure: ellipses for head, eyes, nose and mouth over a slope of light, with noise."""
    own, now = np.random.default_rng([figure, 1]), np.random.default_rng([figure, take, 2])
    template = TEMPLATE_XY * (PICTURE_PX / CROP_PX)
    shape = template + own.normal(0, 1.2, (5, 2))
    angle, scale = now.normal(0, 0.12), now.uniform(0.85, 1.05)
    middle = np.full(2, PICTURE_PX / 2)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (shape - middle) @ turn.T + middle + now.normal(0, 1.0, 2)
    y, x = np.mgrid[:PICTURE_PX, :PICTURE_PX].astype(np.float64)
    canvas = np.ones((PICTURE_PX, PICTURE_PX, 3)) * own.uniform(20, 230, 3)
    canvas += (x * now.normal(0, 1.2) + y * now.normal(0, 1.2))[..., None]
    skin, dark, red = own.uniform(60, 240, 3), own.uniform(0, 110, 3), own.uniform(40, 200, 3)
    unit = scale * PICTURE_PX
    head = points[:3].mean(0)
    ellipses = [
        (head, (0.36 + 0.05 * own.random()) * unit, (0.46 + 0.05 * own.random()) * unit, skin),
        (points[0], 0.05 * unit, (0.02 + 0.03 * own.random()) * unit, dark),
        (points[1], 0.05 * unit, (0.02 + 0.03 * own.random()) * unit, dark),
        (points[2], (0.02 + 0.03 * own.random()) * unit, 0.06 * unit, skin * 0.7),
        (points[3:].mean(0), (0.08 + 0.08 * own.random()) * unit, 0.03 * unit, red),
    ]
    for (centre_x, centre_y), across, down, colour in ellipses:
        inside = ((x - centre_x) / across) ** 2 + ((y - centre_y) / down) ** 2
        cover = np.clip(1.5 - inside, 0, 1)[..., None]
        canvas = canvas * (1 - cover) + cover * colour
    canvas = canvas * now.uniform(0.8, 1.15) + now.normal(0, 6, canvas.shape)
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8), points.astype(np.float32)
