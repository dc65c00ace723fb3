"""All chunks together, without their pictures: what is judged, by rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.train.prepare.chunks import Chunk
from limen.train.prepare.duplicates import Samples
from limen.train.prepare.judging import PARTS
from limen.train.prepare.production import each_chunk
from limen.train.prepare.sources import Source


@dataclass(frozen=True)
class Catalogue:
    """n pictures as the source lists them, k of which gave a crop.

    reason, detail: (n,) str, '' where there is a crop; picture: (k,) int64, the crops' pictures,
    rising; samples: the k crops; names: of the identities; identity: (n,) int64 and own_part: (n,)
    int64, -1 where there is none (see `judge`).
    """

    reason: list[str]
    detail: list[str]
    picture: NDArray[np.int64]
    samples: Samples
    names: Sequence[str]
    identity: NDArray[np.int64]
    own_part: NDArray[np.int64]


def read_catalogue(source: Source, folder: Path, size: int, *, labelled: bool) -> Catalogue:
    """Read what the chunks in `folder` say. Without labels everybody is identity 0."""
    number: dict[str, int] = {}
    identity = np.zeros(len(source), np.int64)
    own_part = np.full(len(source), -1, np.int64)
    reason: list[str] = []
    detail: list[str] = []
    columns: list[_Columns] = []
    for start, chunk in each_chunk(source, folder, size):
        if labelled:
            for row, one in enumerate(source.pictures(start, start + len(chunk)), start):
                identity[row] = number.setdefault(one.identity, len(number))
                own_part[row] = PARTS.index(one.part) if one.part else -1
        reason += chunk.reason.tolist()
        detail += chunk.detail.tolist()
        columns.append(_crops_only(chunk))
    picture = np.flatnonzero(np.array([not text for text in reason], bool)).astype(np.int64)
    samples = Samples(
        identity=identity[picture],
        digest=np.concatenate([chunk.digest for chunk in columns]),
        hash_bits=np.concatenate([chunk.hash_bits for chunk in columns]),
        embedding=np.concatenate([chunk.embedding for chunk in columns]),
        quality=np.concatenate([chunk.quality for chunk in columns]),
    )
    return Catalogue(reason, detail, picture, samples, list(number), identity, own_part)


@dataclass(frozen=True)
class _Columns:
    digest: NDArray[np.uint8]
    hash_bits: NDArray[np.uint8]
    embedding: NDArray[np.float16]
    quality: NDArray[np.float32]


def _crops_only(chunk: Chunk) -> _Columns:
    has_crop = chunk.reason == ""
    return _Columns(
        chunk.digest[has_crop],
        chunk.hash_bits[has_crop],
        chunk.embedding[has_crop],
        chunk.quality[has_crop],
    )
