"""Embeddings from elsewhere: NumPy's .npz, read without trusting it.

`limen embed` writes such a file; so does any other program, for sounds as for pictures. Nothing is
unpickled, and nothing is inflated or allocated beyond what the limits allow.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from limen.uses.embedding_set import EmbeddingsError, EmbeddingSet, numbered_labels

MAX_BYTES = 2**31
MAX_EMBEDDINGS = 4_000_000
MAX_SIZE = 65_536
MAX_NAME_LENGTH = 4096
MAX_ARRAYS = 64
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_WANTED = ("embedding", "embeddings", "name", "path", "label", "detected", "model_id")


def read_embeddings(path: Path) -> EmbeddingSet:
    """The embeddings of an .npz file.

    `embedding` (n, D) of numbers; and where there are `name` or `path` (n,), `label` (n,) of text
    or whole numbers, `detected` (n,) bool, of which only true rows are taken, and `model_id`.
    EmbeddingsError with what is wrong.
    """
    arrays = _read_arrays(path)
    values = arrays.get("embedding", arrays.get("embeddings"))
    if values is None:
        raise EmbeddingsError(
            f"{path}: no array 'embedding'; it holds {', '.join(sorted(arrays)[:8]) or 'nothing'}"
        )
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise EmbeddingsError(
            f"{path}: 'embedding' is {values.shape} {values.dtype}, expected (n, D) numbers"
        )
    count, size = values.shape
    if not (1 <= count <= MAX_EMBEDDINGS and 1 <= size <= MAX_SIZE):
        raise EmbeddingsError(
            f"{path}: 'embedding' is {values.shape}, expected 1 to {MAX_EMBEDDINGS:,} rows of 1 to "
            f"{MAX_SIZE:,} values"
        )
    for name in ("name", "path", "label", "detected"):
        if name in arrays and arrays[name].shape != (count,):
            raise EmbeddingsError(
                f"{path}: '{name}' is {arrays[name].shape}, expected ({count},), one a row"
            )
    names = _texts(arrays.get("name", arrays.get("path")), path) or [
        str(row) for row in range(count)
    ]
    labels = _texts(arrays.get("label"), path) or [None] * count
    detected = arrays.get("detected")
    if detected is not None:
        rows = np.flatnonzero(detected.astype(np.bool_))
        values, names = values[rows], [names[row] for row in rows]
        labels = [labels[row] for row in rows]
        if not len(rows):
            raise EmbeddingsError(f"{path}: nothing was detected in any of the {count} rows")
    embeddings = np.ascontiguousarray(values, np.float32)
    good = np.isfinite(embeddings).all(axis=1)
    if not good.all():
        raise EmbeddingsError(
            f"{path}: {int((~good).sum())} rows hold values that are not finite, the first is row "
            f"{int(np.argmin(good))}; leave them out"
        )
    label, label_names = numbered_labels(labels)
    model = arrays.get("model_id")
    model_id = str(model.item())[:64] if model is not None and model.size == 1 else ""
    return EmbeddingSet(tuple(map(str, names)), embeddings, label, label_names, model_id)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {i.filename.removesuffix(".npy"): i for i in archive.infolist()[:MAX_ARRAYS]}
            wanted = [infos[name] for name in _WANTED if name in infos]
            if sum(info.file_size for info in wanted) > MAX_BYTES:
                raise ValueError(f"its arrays are larger than {MAX_BYTES // 2**20} MiB")
            found: dict[str, NDArray[Any]] = {}
            for info in wanted:
                with archive.open(info) as entry:
                    found[info.filename.removesuffix(".npy")] = _read_array(entry, info.file_size)
            return found
    except OSError as error:
        raise EmbeddingsError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, RuntimeError, SyntaxError) as error:
        raise EmbeddingsError(
            f"{path}: expected an .npz file of embeddings, as 'limen embed' writes it "
            f"({ascii(str(error))[1:-1][:120]})"
        ) from error
    except (NotImplementedError, TypeError, OverflowError, zlib.error) as error:
        raise EmbeddingsError(f"{path}: damaged, or packed in a way that is not read") from error


def _read_array(entry: IO[bytes], size: int) -> NDArray[Any]:
    version = np.lib.format.read_magic(entry)
    if version not in _HEADERS:
        raise ValueError("an array of another format version")
    shape, by_columns, dtype = _HEADERS[version](entry, max_header_size=4096)
    if dtype.hasobject or dtype.kind not in "biufUS" or len(shape) > 2:
        raise ValueError("an array of another kind")
    if dtype.kind in "US" and dtype.itemsize > 4 * MAX_NAME_LENGTH:
        raise ValueError(f"texts longer than {MAX_NAME_LENGTH} characters")
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > size:
        raise ValueError("an array that is shorter than it says")
    content = entry.read(wanted)
    if len(content) != wanted:
        raise ValueError("an array that is shorter than it says")
    if not wanted:
        return np.empty(shape, dtype)
    flat = np.frombuffer(content, dtype)
    return flat.reshape(shape, order="F" if by_columns else "C")


def _texts(values: NDArray[Any] | None, path: Path) -> list[str | None] | None:
    if values is None:
        return None
    if values.dtype.kind == "S":
        return [bytes(value).decode("utf-8", "replace") for value in values]
    if values.dtype.kind == "U":
        try:
            return [str(value) for value in values]
        except (UnicodeError, ValueError) as error:
            raise EmbeddingsError(f"{path}: texts that are not Unicode") from error
    if values.dtype.kind in "iu":
        return [None if value < 0 else str(value) for value in values.tolist()]
    raise EmbeddingsError(f"{path}: names and labels are {values.dtype}, expected text or numbers")
