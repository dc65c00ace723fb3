"""A cohort as it lies in a bundle: embeddings of people no door knows, 8 bits a number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.arrays import pack_arrays, unpack_arrays
from limen.errors import BundleError


@dataclass(frozen=True, slots=True)
class CohortEmbeddings:
    """embeddings: (n, D) float32, unit norm; subject: (n,) int64, numbers without names."""

    embeddings: NDArray[np.float32]
    subject: NDArray[np.int64]


def encode_cohort(cohort: CohortEmbeddings) -> bytes:
    """A cohort as it lies in a bundle: int8 rows, numbers for subjects."""
    scale = np.abs(cohort.embeddings).max(axis=1, keepdims=True) / 127
    return pack_arrays(
        {
            "embeddings": np.round(cohort.embeddings / scale).astype(np.int8),
            "subject": cohort.subject.astype(np.int32),
        }
    )


def decode_cohort(content: bytes | memoryview, embedding_size: int) -> CohortEmbeddings:
    """Read a cohort. BundleError where it is damaged or of another embedding size."""
    arrays = unpack_arrays(content, "the cohort")
    if not {"embeddings", "subject"} <= set(arrays):
        raise BundleError("the cohort cannot be read; copy the bundle again")
    rows, subject = arrays["embeddings"], arrays["subject"]
    if rows.ndim != 2 or rows.shape[1] != embedding_size or subject.shape != rows.shape[:1]:
        raise BundleError(f"the cohort has shape {rows.shape}, expected (n, {embedding_size})")
    if rows.dtype.kind not in "if" or subject.dtype.kind not in "iu":
        raise BundleError(f"the cohort holds {rows.dtype} and {subject.dtype}, expected numbers")
    values = rows.astype(np.float32)
    norm = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    if not np.isfinite(norm).all():
        raise BundleError("the cohort holds values that are not numbers")
    return CohortEmbeddings(values / norm, subject.astype(np.int64))
