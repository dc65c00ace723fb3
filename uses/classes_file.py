"""Classes as a file: their names, examples and model, checked before any of it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.arrays import pack_arrays, unpack_arrays
from limen.errors import BundleError, LimenError
from limen.files import write_atomically
from limen.settings import explain_validation_error
from limen.uses.classes import MAX_EXAMPLES, MAX_NAME, Classes
from limen.uses.embedding_set import unit_rows

MAX_CLASSES = 10_000
MAX_BYTES = 2**31


class ClassesFileError(LimenError, ValueError):
    """A file of classes cannot be read or written."""


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = Field(1, ge=1, le=1)
    model_id: str = Field(max_length=64)
    names: tuple[Annotated[str, Field(min_length=1, max_length=MAX_NAME)], ...] = Field(
        max_length=MAX_CLASSES
    )


def write_classes(path: Path, classes: Classes) -> None:
    """Write it whole or not at all. It holds embeddings: only its user may read it."""
    facts = _Facts(schema_version=1, model_id=classes.model_id, names=classes.names)
    told = np.frombuffer(facts.model_dump_json().encode(), np.uint8)
    content = pack_arrays({"facts": told, "embedding": classes.embeddings, "label": classes.label})
    try:
        with write_atomically(path, 0o600) as file:
            file.write(content)
    except OSError as error:
        raise ClassesFileError(f"{path}: cannot be written ({error.strerror})") from error


def read_classes(path: Path) -> Classes:
    """Read what `write_classes` wrote. ClassesFileError with what is wrong."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ClassesFileError(f"{path}: larger than {MAX_BYTES // 2**20} MiB")
        arrays = unpack_arrays(path.read_bytes(), str(path))
        facts = _Facts.model_validate(json.loads(arrays["facts"].tobytes()))
        embeddings, label = arrays["embedding"], arrays["label"]
    except OSError as error:
        raise ClassesFileError(
            f"{path}: cannot be read ({error.strerror}); 'limen learn' makes it"
        ) from error
    except ValidationError as error:
        raise ClassesFileError(f"{path}: {explain_validation_error(error, _Facts)}") from error
    except (BundleError, KeyError, ValueError, RecursionError) as error:
        raise ClassesFileError(f"{path}: not a file of 'limen learn', or damaged") from error
    counts = len(facts.names)
    good = (
        embeddings.ndim == 2
        and embeddings.dtype.kind == "f"
        and 1 <= embeddings.shape[1] <= 65_536
        and len(set(facts.names)) == counts
        and label.shape == embeddings.shape[:1]
        and label.dtype.kind in "iu"
        and bool(np.isfinite(embeddings).all())
        and bool((label >= 0).all())
        # Each class has an example, none too many.
        and np.array_equal(np.unique(label), np.arange(counts))
        and (not counts or int(np.bincount(label).max()) <= MAX_EXAMPLES)
    )
    if not good:
        raise ClassesFileError(f"{path}: its arrays do not fit each other; learn again")
    rows = unit_rows(embeddings.astype(np.float32))
    return Classes(facts.names, rows, label.astype(np.int64), facts.model_id)
