"""The same picture twice: to the byte, nearly so, and under the names of two identities.

Pure: rows in, rows out. Nothing here reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.train.prepare.crops import HASH_BYTES

BLOCK = 2048
NEAR_BITS = 40  # of 256; see `perceptual_hash`
# Crops that reach beyond their pictures share a black border, and with it hash bits. Of 205 pairs in
# All-Age-Faces and UTKFace that the hash alone called near, two showed different people, at a cosine
# of .19 and .27; the others had .68 and more.
NEAR_BITS_SCORE = 0.7
NEAR_SCORE = 0.95  # cosine; frames of one film reach it, two pictures of one person hardly do


@dataclass(frozen=True)
class Samples:
    """n crops that are to be judged.

    identity: (n,) int64, 0..identities-1; digest: (n, 32) uint8; hash_bits: (n, 32) uint8, packed;
    embedding: (n, D) float16 or float32, unit norm; quality: (n,) float32.
    """

    identity: NDArray[np.int64]
    digest: NDArray[np.uint8]
    hash_bits: NDArray[np.uint8]
    embedding: NDArray[np.float16] | NDArray[np.float32]
    quality: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.identity)

    def unit(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The embeddings of `rows`, (k, D) float32."""
        return np.asarray(self.embedding[rows], np.float32)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows that show the same, and how alike they are: cosine, and hash bits that differ."""

    row: int
    other: int
    score: float
    bits: int


def rows_by_identity(
    identity: NDArray[np.int64], rows: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """`rows` grouped by identity, groups by rising identity, rows in their order. No group is empty."""
    if not len(rows):
        return []
    order = rows[np.argsort(identity[rows], kind="stable")]
    borders = np.flatnonzero(np.diff(identity[order])) + 1
    return np.split(order, borders)


def exact_groups(digest: NDArray[np.uint8], rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Groups of two or more of `rows` whose contents are the same bytes, each in rising order."""
    keys = np.ascontiguousarray(digest[rows]).view("V32").ravel()
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    groups = np.split(rows[order], np.flatnonzero(~same) + 1)
    found = [np.sort(group) for group in groups if len(group) > 1]
    return sorted(found, key=lambda group: int(group[0]))


def near_matrix(
    samples: Samples, rows: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cosines and differing hash bits of `rows` against `others`, each (r, o)."""
    cosine = samples.unit(rows) @ samples.unit(others).T
    signs = [
        np.unpackbits(samples.hash_bits[r], axis=1).astype(np.float32) * 2 - 1
        for r in (rows, others)
    ]
    bits = (8 * HASH_BYTES - signs[0] @ signs[1].T) / 2
    return cosine, np.rint(bits).astype(np.int64)


def near_duplicates(
    samples: Samples, rows: NDArray[np.int64], near_score: float = NEAR_SCORE
) -> list[Pair]:
    """Among `rows` of one identity: those that repeat a better one, each with the one that stays.

    The best stays first (quality, then order), and a picture goes where it is near one that stays,
    so that a chain of slow change is thinned and not lost. near_score: the cosine from which on two
    are near; with NEAR_BITS or fewer that differ, NEAR_BITS_SCORE is enough.
    """
    order = rows[np.lexsort((rows, -samples.quality[rows]))]
    kept = order[:0]
    found: list[Pair] = []
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        stays = np.ones(len(block), bool)
        for begin in range(0, len(kept), BLOCK):
            _drop_near(samples, block, stays, kept[begin : begin + BLOCK], near_score, found)
        cosine, bits = near_matrix(samples, block, block)
        near = _is_near(cosine, bits, near_score)
        for row in range(len(block)):
            if not stays[row]:
                continue
            for later in np.flatnonzero(near[row, row + 1 :] & stays[row + 1 :]) + row + 1:
                stays[later] = False
                found.append(_pair(block[later], block[row], cosine[row, later], bits[row, later]))
        kept = np.concatenate([kept, block[stays]])
    return sorted(found, key=lambda pair: pair.row)


def near_duplicates_elsewhere(
    samples: Samples,
    rows: NDArray[np.int64],
    nearest: NDArray[np.int64],
    near_score: float = NEAR_SCORE,
) -> list[Pair]:
    """Pictures of `rows` that are nearly one of the identity whose centre is nearest among the others.

    nearest: (len(rows),) that identity, -1 where there is none. Each pair of rows comes once. Only
    the nearest identity is searched: comparing all pictures with all would not end.
    """
    members = {
        int(samples.identity[group[0]]): group for group in rows_by_identity(samples.identity, rows)
    }
    seen: set[tuple[int, int]] = set()
    found: list[Pair] = []
    for searching in rows_by_identity(nearest, np.flatnonzero(nearest >= 0)):
        others = members.get(int(nearest[searching[0]]))
        if others is None:
            continue
        for start in range(0, len(searching), BLOCK):
            block = rows[searching[start : start + BLOCK]]
            cosine, bits = near_matrix(samples, block, others)
            for row, column in zip(*np.nonzero(_is_near(cosine, bits, near_score)), strict=True):
                pair = _pair(block[row], others[column], cosine[row, column], bits[row, column])
                key = (min(pair.row, pair.other), max(pair.row, pair.other))
                if key not in seen:
                    seen.add(key)
                    found.append(pair)
    return sorted(found, key=lambda pair: (pair.row, pair.other))


def _is_near(
    cosine: NDArray[np.float32], bits: NDArray[np.int64], near_score: float
) -> NDArray[np.bool_]:
    return (cosine >= near_score) | ((bits <= NEAR_BITS) & (cosine >= NEAR_BITS_SCORE))


def _drop_near(
    samples: Samples,
    block: NDArray[np.int64],
    stays: NDArray[np.bool_],
    kept: NDArray[np.int64],
    near_score: float,
    found: list[Pair],
) -> None:
    cosine, bits = near_matrix(samples, block, kept)
    near = _is_near(cosine, bits, near_score) & stays[:, None]
    for row in np.flatnonzero(near.any(1)):
        column = int(near[row].argmax())
        stays[row] = False
        found.append(_pair(block[row], kept[column], cosine[row, column], bits[row, column]))


def _pair(row: np.int64, other: np.int64, score: np.float32, bits: np.int64) -> Pair:
    return Pair(int(row), int(other), float(score), int(bits))
