"""The golden scene: a picture of drawn figures, and what each graph of a finder must make of it.

The scene is laid out from the golden pictures in a bundle, pixel by pixel, so that every board sees
the same. Of a graph's answers those of the surest cells are kept: their numbers may differ by a
tolerance, and each cell that is clear of the finder's least confidence must stay on its side.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.anchors import CELL_CHANNELS
from limen.arrays import unpack_arrays
from limen.errors import BundleError
from limen.manifest import FinderExpectation, GraphFinder, Precision
from limen.runtimes import Session
from limen.scaling import Scaling

CELLS = 64
# Mean absolute difference of the kept numbers (logits, strides), where no other kernel tells more.
# Float32 differs by 1e-6 between runtimes; int8 by a few hundredths between kernels.
MAX_DIFFERENCE: dict[Precision, float] = {"float32": 1e-4, "float16": 2e-3, "int8": 2e-2}
LEAST_TOO_CLOSE = 1e-3
KERNEL_ALLOWANCE = 2.0  # times what two kernels on one machine differ by


def golden_scene(pictures: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB from (n, P, P, 3): enlarged by whole numbers, side by side."""
    times = max(1, min(height_px, width_px) // (2 * pictures.shape[1]))
    tiles = pictures.repeat(times, axis=1).repeat(times, axis=2)
    side = tiles.shape[1]
    down, across = -(-height_px // side), -(-width_px // side)
    numbers = np.arange(down * across).reshape(down, across) % len(tiles)
    rows = [np.concatenate([tiles[number] for number in row], axis=1) for row in numbers]
    return np.ascontiguousarray(np.concatenate(rows)[:height_px, :width_px])


def scene_answers(
    session: Session, layout: str, finder: GraphFinder, pictures: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """A graph's answers to the scene, (cells, 15). BundleError where it gives others."""
    scene = golden_scene(pictures, finder.height_px, finder.width_px)
    batch = Scaling(finder.scaling.mean, finder.scaling.divisor).apply(scene)[None]
    if layout == "NCHW":
        batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
    found = session.run(batch)
    if found.ndim != 3 or found.shape[0] != 1 or found.shape[2] != CELL_CHANNELS:
        raise BundleError(f"the finder's graph gives {found.shape}, expected (1, cells, 15)")
    return np.asarray(found[0], np.float32)


def finder_expectation(
    path: str,
    precision: Precision,
    answers: NDArray[np.float32],
    otherwise: NDArray[np.float32] | None = None,
) -> tuple[FinderExpectation, dict[str, NDArray[Any]]]:
    """What a graph must answer, and the arrays that say it.

    answers: (cells, 15); otherwise: by other kernels of the same runtime, where there are any.
    """
    rows = np.sort(np.argsort(-answers[:, 0], kind="stable")[:CELLS])
    kept = answers[rows]
    difference, moved = 0.0, 0.0
    if otherwise is not None:
        difference = float(np.abs(otherwise[rows] - kept).mean())
        moved = float(np.abs(otherwise[rows, 0] - kept[:, 0]).max())
    entry = FinderExpectation(
        path=path,
        max_difference=round(max(MAX_DIFFERENCE[precision], KERNEL_ALLOWANCE * difference), 6),
        too_close=round(max(LEAST_TOO_CLOSE, KERNEL_ALLOWANCE * moved), 6),
    )
    return entry, {f"cells/{path}": rows.astype(np.int32), f"answers/{path}": kept}


def compare_answers(
    content: bytes | memoryview,
    row: FinderExpectation,
    found: NDArray[np.float32],
    min_confidence: float,
) -> tuple[float, int, int]:
    """Mean absolute difference, decided cells, and how many of them were decided otherwise.

    content: the golden part; found: (cells, 15). BundleError where the part is damaged.
    """
    arrays = unpack_arrays(content, "the golden inputs")
    cells, kept = arrays.get(f"cells/{row.path}"), arrays.get(f"answers/{row.path}")
    if (
        cells is None
        or kept is None
        or cells.ndim != 1
        or cells.dtype.kind not in "iu"
        or kept.dtype != np.float32
        or kept.shape != (len(cells), CELL_CHANNELS)
        or not len(cells)
        or not np.isfinite(kept).all()
    ):
        raise BundleError(f"the golden inputs lack answers of '{row.path}'; copy the bundle again")
    if cells.min() < 0 or cells.max() >= len(found):
        raise BundleError(f"graph '{row.path}' has {len(found)} cells, fewer than were expected")
    now = found[cells].astype(np.float64)
    least = math.log(min_confidence / (1 - min_confidence))
    decided = np.abs(kept[:, 0] - least) > row.too_close
    differs = (now[:, 0] >= least) != (kept[:, 0] >= least)
    difference = float(np.abs(now - kept).mean())
    return difference, int(decided.sum()), int((decided & differs).sum())
