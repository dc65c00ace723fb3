"""Templates as sealed records: an embedding with what is known of its shot."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limen.device.gallery.sealing import DamagedRecordError, Sealer, context
from limen.errors import GalleryError

NORM_TOLERANCE = 1e-3
MAX_TIME_CHARACTERS = 40
MAX_EMBEDDING_SIZE = 4096
# Templates are stored as they are computed, in an order of bytes that no other board reads wrongly.
STORED = np.dtype("<f4")
_SIZE = struct.Struct("<I")


def reference_context(subject_uid: bytes, model_id: str) -> bytes:
    """A reference belongs to one subject and one model."""
    return context("reference", subject_uid, model_id)


def negative_context(subject_uid: bytes, model_id: str) -> bytes:
    """A negative belongs to one subject and one model, and is no reference."""
    return context("negative", subject_uid, model_id)


def crop_context(subject_uid: bytes) -> bytes:
    """A kept crop belongs to one subject, whatever the model."""
    return context("crop", subject_uid)


def seal_template(
    sealer: Sealer,
    row: NDArray[np.float32],
    quality: float,
    taken_at: str,
    bound_to: bytes,
    *,
    adapted: bool = False,
) -> bytes:
    """A sealed template. row: (D,) float32, unit norm; quality: 0 to 1; taken_at: UTC, ISO 8601.

    adapted: whether the door added it by itself.
    """
    values = np.ascontiguousarray(row, STORED).tobytes()
    rest: dict[str, object] = {"quality": quality, "taken_at": taken_at}
    if adapted:
        rest["adapted"] = True
    return sealer.seal(_SIZE.pack(len(row)) + values + json.dumps(rest).encode(), bound_to)


def opened_template(sealer: Sealer, sealed: bytes, bound_to: bytes) -> bytes:
    """The bytes of a sealed template's embedding, D values of `STORED`."""
    content = sealer.open(sealed, bound_to)
    end = _SIZE.size + _SIZE.unpack_from(content)[0] * STORED.itemsize
    return content[_SIZE.size : end]


def opened_shot(
    sealer: Sealer, sealed: bytes, bound_to: bytes
) -> tuple[NDArray[np.float32], float, str]:
    """A template with its quality and time."""
    content = sealer.open(sealed, bound_to)
    end = _SIZE.size + _SIZE.unpack_from(content)[0] * STORED.itemsize
    rest = json.loads(content[end:])
    row = np.frombuffer(content[_SIZE.size : end], STORED).astype(np.float32)
    return row, float(rest["quality"]), str(rest["taken_at"])


def is_adapted(sealer: Sealer, sealed: bytes, bound_to: bytes) -> bool:
    """Whether the door added a template by itself."""
    content = sealer.open(sealed, bound_to)
    end = _SIZE.size + _SIZE.unpack_from(content)[0] * STORED.itemsize
    return bool(json.loads(content[end:]).get("adapted", False))


def decoded_rows(blobs: Sequence[bytes]) -> NDArray[np.float32]:
    """(n, D) float32 of opened templates; (0, 0) of none. GalleryError unless all of unit norm."""
    if not blobs:
        return np.zeros((0, 0), np.float32)
    sizes = {len(blob) for blob in blobs}
    if len(sizes) == 1 and sizes.pop() % STORED.itemsize == 0:
        rows = np.frombuffer(b"".join(blobs), STORED).reshape(len(blobs), -1)
        if is_unit_norm(rows):
            return rows.astype(np.float32)
    raise DamagedRecordError("a stored template is damaged: put back a backup, or enrol again")


def checked_embeddings(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """`embeddings` as they are stored. GalleryError unless (k, D) float32 of unit norm, k >= 1."""
    if embeddings.dtype != np.float32 or embeddings.ndim != 2 or 0 in embeddings.shape:
        raise GalleryError(
            f"expected embeddings (k, D) float32, found {embeddings.shape} {embeddings.dtype}: "
            "enrol what an embedder returned"
        )
    if not is_unit_norm(embeddings):
        raise GalleryError("expected embeddings of unit norm: enrol what an embedder returned")
    if embeddings.shape[1] > MAX_EMBEDDING_SIZE:
        raise GalleryError(f"embeddings of {embeddings.shape[1]} values are no templates")
    return np.ascontiguousarray(embeddings, STORED)


def checked_time(text: str) -> str:
    """A time as it is stored. GalleryError unless it is short text."""
    if not 1 <= len(text) <= MAX_TIME_CHARACTERS:
        raise GalleryError("enrolled_at: expected a time in UTC as in ISO 8601")
    return text


def is_unit_norm(rows: NDArray[np.float32]) -> bool:
    """False for a row with a value that is not finite, too."""
    norm = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return bool((np.abs(norm - 1) <= NORM_TOLERANCE).all())
