"""Chunks of finished work: what a worker writes, and what a killed run finds again.

A chunk is an `.npz` with a row for each of its pictures; it is written whole or not at all, and
one that cannot be read is made again.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.files import write_atomically
from limen.train.prepare.crops import HASH_BYTES, Crop, Dropped


@dataclass(frozen=True)
class Chunk:
    """n pictures, in their source's order.

    reason: (n,) str, '' where there is a crop; detail: (n,) str; digest: (n, 32) uint8, zeros where
    the content was not read; hash_bits: (n, 32) uint8; embedding: (n, D) float16; teacher: (n, E)
    float16, E = 0 without one; quality: (n,) float32; box_xyxy: (n, 4) and landmarks_xy: (n, 5, 2)
    float32 px; faces: (n,) int32; encoded: bytes of all crops; ends: (n,) int64, where each ends.
    """

    reason: NDArray[np.str_]
    detail: NDArray[np.str_]
    digest: NDArray[np.uint8]
    hash_bits: NDArray[np.uint8]
    embedding: NDArray[np.float16]
    teacher: NDArray[np.float16]
    quality: NDArray[np.float32]
    box_xyxy: NDArray[np.float32]
    landmarks_xy: NDArray[np.float32]
    faces: NDArray[np.int32]
    encoded: NDArray[np.uint8]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.reason)

    def crop(self, row: int) -> bytes:
        """The encoded crop of `row`; b'' where there is none."""
        start = int(self.ends[row - 1]) if row else 0
        return self.encoded[start : int(self.ends[row])].tobytes()


def chunk_of(
    results: Sequence[Crop | Dropped], embedding_size: int, teacher_size: int = 0
) -> Chunk:
    """The chunk that holds `results`."""
    count = len(results)
    chunk = Chunk(
        reason=np.array([r.reason if isinstance(r, Dropped) else "" for r in results], np.str_),
        detail=np.array([r.detail if isinstance(r, Dropped) else "" for r in results], np.str_),
        digest=np.zeros((count, 32), np.uint8),
        hash_bits=np.zeros((count, HASH_BYTES), np.uint8),
        embedding=np.zeros((count, embedding_size), np.float16),
        teacher=np.zeros((count, teacher_size), np.float16),
        quality=np.zeros(count, np.float32),
        box_xyxy=np.zeros((count, 4), np.float32),
        landmarks_xy=np.zeros((count, 5, 2), np.float32),
        faces=np.zeros(count, np.int32),
        encoded=np.frombuffer(
            b"".join(r.encoded for r in results if isinstance(r, Crop)), np.uint8
        ),
        ends=np.cumsum([len(r.encoded) if isinstance(r, Crop) else 0 for r in results]).astype(
            np.int64
        ),
    )
    for row, result in enumerate(results):
        if result.digest:
            chunk.digest[row] = np.frombuffer(result.digest, np.uint8)
        if isinstance(result, Crop):
            chunk.hash_bits[row] = result.hash_bits
            chunk.embedding[row] = result.embedding
            chunk.teacher[row] = result.teacher
            chunk.quality[row] = result.quality
            chunk.box_xyxy[row] = result.box_xyxy
            chunk.landmarks_xy[row] = result.landmarks_xy
            chunk.faces[row] = result.faces
    return chunk


def save_chunk(path: Path, chunk: Chunk) -> None:
    """Write a chunk, whole or not at all. OSError as the system gives it."""
    with write_atomically(path) as file:
        np.savez(file, **{field.name: getattr(chunk, field.name) for field in fields(Chunk)})


def load_chunk(path: Path, count: int) -> Chunk | None:
    """Read a chunk of `count` pictures; None where it is missing, damaged or of another length."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            chunk = Chunk(**{field.name: archive[field.name] for field in fields(Chunk)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    whole = all(
        len(getattr(chunk, field.name)) == count
        for field in fields(Chunk)
        if field.name != "encoded"
    )
    return chunk if whole and int(chunk.ends[-1]) == len(chunk.encoded) else None
