"""What an export takes from a training folder: crops to calibrate, to compare on, and a cohort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.alignment import TEMPLATE_XY
from limen.cohort import CohortEmbeddings, encode_cohort
from limen.embedder import RuntimeEmbedder
from limen.export.gate import EMBED_BATCH, HeldOut
from limen.export.graphs import BuiltGraph
from limen.manifest import Alignment, Cohort
from limen.sealing import digest
from limen.train.pictures import CHOOSE, COHORT, REPORT, Pictures, PicturesError, open_pictures

COHORT_FILE = "cohort.npz"
FLOOR_FMR = 1e-2
MAX_FLOOR_PAIRS = 5_000_000
MAX_GATE_CROPS = 5_000  # all pairs are compared, so time and memory grow with the square

Say = Callable[[str], None]
EmbedPictures = Callable[[Pictures], NDArray[np.float32]]


def held_out_of(
    embed: EmbedPictures, folder: Path, fit: Pictures, input_px: int, seed: int
) -> HeldOut:
    """What the gate compares on: part 'report', or 'choose', or `fit`, the first that there is.

    embed: the reference's embeddings of all pictures of a part, (n, D) of unit norm.
    """
    found = (part_or_none(folder, part) for part in (REPORT, CHOOSE))
    pictures = next((part for part in found if part is not None), fit)
    chosen = indices(len(pictures), MAX_GATE_CROPS, np.random.default_rng([seed, 1]))
    return HeldOut(
        part=pictures.part,
        crops=np.stack([pictures.decode(int(index), input_px) for index in chosen]),
        reference=embed(pictures)[chosen],
        identity=pictures.identity[chosen],
    )


def part_or_none(folder: Path, part: str) -> Pictures | None:
    """A part of a training folder that was read before, or None where it has no such part."""
    try:
        return open_pictures(folder, part)
    except PicturesError:  # 'fit' was read from this folder, so it is this part that is not there
        return None


def draw_crops(
    pictures: Pictures, count: int, input_px: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """At most `count` pictures, drawn without repetition, as (n, px, px, 3) uint8 RGB."""
    chosen = indices(len(pictures), count, rng)
    return np.stack([pictures.decode(int(index), input_px) for index in chosen])


def indices(available: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most `wanted` of `available` row numbers, rising."""
    if available <= wanted:
        return np.arange(available)
    return np.sort(rng.choice(available, wanted, replace=False))


def pictures_through(embedder: RuntimeEmbedder, input_px: int) -> EmbedPictures:
    """What embeds all pictures of a part by a graph on its runtime, as a door does."""

    def embed(pictures: Pictures) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(pictures), EMBED_BATCH):
            some = range(start, min(start + EMBED_BATCH, len(pictures)))
            rows.append(embedder.embed(np.stack([pictures.decode(i, input_px) for i in some])))
        return np.concatenate(rows)

    return embed


def cohort_of(
    graph: BuiltGraph,
    embed: EmbedPictures,
    folder: Path,
    seed: int,
    report: Say,
) -> tuple[bytes, Cohort | None, float | None]:
    """The part, the manifest's entry and the threshold's floor, of the folder's part 'cohort'.

    graph, embed: the bundle's default graph, and what embeds by it: a door compares its references
    with these strangers, so they must come from the same instrument. Nothing, None and None where
    the folder has no such part.
    """
    pictures = part_or_none(folder, COHORT)
    if pictures is None:
        report("no part 'cohort' in the folder: the bundle carries none")
        return b"", None, None
    report(f"embedding a cohort of {len(pictures.names)} people with {graph.path}")
    rng = np.random.default_rng([seed, 2])
    # Neither the order nor the numbers say which people of the folder these are.
    order, number = rng.permutation(len(pictures)), rng.permutation(len(pictures.names))
    embeddings = embed(pictures)[order]
    found = CohortEmbeddings(embeddings, number[pictures.identity][order].astype(np.int64))
    content = encode_cohort(found)
    entry = Cohort(
        path=COHORT_FILE,
        sha256=digest(content),
        bytes=len(content),
        subjects=len(pictures.names),
        embeddings=len(embeddings),
        precision=graph.precision,
        graph=graph.path,
    )
    return content, entry, threshold_floor(found, np.random.default_rng([seed, 3]))


def threshold_floor(cohort: CohortEmbeddings, rng: np.random.Generator) -> float | None:
    """The threshold at FMR 1e-2 among the cohort's strangers; None without two people.

    All pairs of different people, or a random five million of them where there are more.
    """
    from limen.calibration.rates import threshold_at_fmr

    count = len(cohort.embeddings)
    if count * (count - 1) // 2 <= MAX_FLOOR_PAIRS:
        left, right = np.triu_indices(count, 1)
    else:
        left, right = rng.integers(0, count, (2, MAX_FLOOR_PAIRS))
    strangers = cohort.subject[left] != cohort.subject[right]
    left, right = left[strangers], right[strangers]
    if len(left) == 0:
        return None
    scores = np.empty(len(left), np.float32)
    for start in range(0, len(left), 100_000):
        some = slice(start, start + 100_000)
        pairs = cohort.embeddings[left[some]], cohort.embeddings[right[some]]
        scores[some] = np.einsum("nd,nd->n", *pairs)
    return float(np.clip(threshold_at_fmr(scores, FLOOR_FMR), -1, 1))


def cohort_section(cohort: Cohort | None, threshold_floor: float | None) -> str:
    """What a model card says of the cohort and the floor."""
    if cohort is None:
        text = "None: nobody can be enrolled or calibrated with this bundle (`limen prepare --cohort`)."
    else:
        text = (
            f"{cohort.embeddings:,} embeddings of {cohort.subjects:,} people of part '{COHORT}', "
            "who were not trained on, quantised to 8 bits, under numbers without names or "
            f"pictures. They are the strangers of a calibration, embedded by {_embedded_by(cohort)}. "
            "A door that runs another precision than theirs is told so when it is calibrated."
        )
    if threshold_floor is not None:
        text += (
            f" No calibration goes below a threshold of {threshold_floor:.4f}, which is where "
            "their FMR among themselves is 1e-2."
        )
    return "## The cohort\n\n" + text


def _embedded_by(cohort: Cohort) -> str:
    if cohort.graph is None:
        return f"a network at {cohort.precision} that is not in the bundle"
    return f"`{cohort.graph}`, the graph that a door runs by default"


def alignment_of(input_px: int) -> Alignment:
    """The template that our crops are aligned to, in a crop of `input_px`."""
    points = [(round(float(x), 4), round(float(y), 4)) for x, y in TEMPLATE_XY]
    return Alignment(px=input_px, template_xy=tuple(points))
