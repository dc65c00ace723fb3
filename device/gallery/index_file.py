"""The search index on the disk: what a door compares with, sealed as a whole, so that it starts soon.

    sealed stream of: length (8 bytes), description (JSON), subject ids, rows, templates, codebook,
    codes, negatives

Opening a million records one by one takes minutes; opening this file takes seconds. It opens only
with the key that the gallery holds for it (`index_key`), for this gallery and this model.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.device.gallery.sealing import KEY_BYTES, DamagedRecordError, context
from limen.device.gallery.store import Store
from limen.device.gallery.stream import SealedReader, SealedWriter
from limen.device.indexed_search import Codes, coded
from limen.device.subjects import SubjectDetails
from limen.files import write_atomically

SUFFIX = ".index"
VERSION = 1
# Far above any board's memory: an authentic file cannot say more by mistake.
MAX_SUBJECTS = 20_000_000
_LENGTH = struct.Struct(">Q")
_PLAIN = SubjectDetails()


@dataclass(frozen=True, slots=True)
class Indexed:
    """What is in the index, in one order.

    rows: (n,) int64, the subjects' rows in the gallery's file; templates: (n, D) float32, fused;
    negatives: (m, D) float32, negative_subject: (m,) int64, which of the n.
    """

    subject_ids: tuple[str, ...]
    rows: NDArray[np.int64]
    templates: NDArray[np.float32]
    codes: Codes
    details: tuple[SubjectDetails, ...]
    negatives: NDArray[np.float32]
    negative_subject: NDArray[np.int64]

    def without(self, rows: NDArray[np.int64]) -> Indexed:
        """All but the subjects of these rows."""
        kept = ~np.isin(self.rows, rows)
        if kept.all():
            return self
        number = np.cumsum(kept) - 1
        still = kept[self.negative_subject]
        return replace(
            self,
            subject_ids=tuple(n for n, keep in zip(self.subject_ids, kept, strict=True) if keep),
            rows=self.rows[kept],
            templates=self.templates[kept],
            codes=Codes(self.codes.codebook, self.codes.codes[kept]),
            details=tuple(d for d, keep in zip(self.details, kept, strict=True) if keep),
            negatives=self.negatives[still],
            negative_subject=number[self.negative_subject[still]],
        )

    def joined(self, other: Indexed) -> Indexed:
        """These, then the others, coded in this codebook. Whoever changed stands at the end."""
        if not other.subject_ids:
            return self
        fresh = coded(self.codes.codebook, other.templates)
        negatives = [rows for rows in (self.negatives, other.negatives) if len(rows)]
        moved = other.negative_subject + len(self.subject_ids)
        return Indexed(
            subject_ids=self.subject_ids + other.subject_ids,
            rows=np.concatenate([self.rows, other.rows]),
            templates=np.concatenate([self.templates, other.templates]),
            codes=Codes(self.codes.codebook, np.concatenate([self.codes.codes, fresh])),
            details=self.details + other.details,
            negatives=np.concatenate(negatives) if negatives else self.negatives,
            negative_subject=np.concatenate([self.negative_subject, moved]),
        )


def index_path(gallery: Path) -> Path:
    """Where a gallery's index lies."""
    return gallery.with_name(gallery.name + SUFFIX)


def remove_index_file(gallery: Path) -> None:
    """Remove an index that no longer counts. One that cannot be removed does not open either."""
    with contextlib.suppress(OSError):
        os.unlink(index_path(gallery))


def write_index(store: Store, model_id: str, indexed: Indexed) -> bytes:
    """Write the index's file under a new key, whole or not at all; return the key. OSError as it comes."""
    key = secrets.token_bytes(KEY_BYTES)
    ids = "\n".join(indexed.subject_ids).encode()  # no id has a line break
    described = {
        "version": VERSION,
        "subjects": len(indexed.subject_ids),
        "values": indexed.templates.shape[1],
        "ids_bytes": len(ids),
        "codebook": indexed.codes.codebook.shape,
        "code_bytes": indexed.codes.codes.shape[1],
        "negatives": len(indexed.negatives),
        "details": {
            number: details.model_dump(mode="json", exclude_defaults=True)
            for number, details in enumerate(indexed.details)
            if details != _PLAIN
        },
    }
    head = json.dumps(described).encode()
    # Whoever may read the gallery may read its index: on a board, a unix group.
    mode = store.path.stat().st_mode & 0o660
    with write_atomically(index_path(store.path), mode) as file:
        writer = SealedWriter(file, key, _bound_to(store, model_id))
        for part in (_LENGTH.pack(len(head)), head, ids):
            writer.write(part)
        for array, kind in (
            (indexed.rows, "<i8"),
            (indexed.templates, "<f4"),
            (indexed.codes.codebook, "<f4"),
            (indexed.codes.codes, "u1"),
            (indexed.negatives, "<f4"),
            (indexed.negative_subject, "<i8"),
        ):
            if array.size:
                writer.write(np.ascontiguousarray(array, kind).data)
        writer.finish()
    return key


def read_index(store: Store, model_id: str, key: bytes) -> Indexed | None:
    """What is in the index's file; None where there is none.

    DamagedRecordError where it is stale, cut, changed, or another gallery's.
    """
    try:
        with index_path(store.path).open("rb") as file:
            reader = SealedReader(file, key, _bound_to(store, model_id))
            (length,) = _LENGTH.unpack(reader.read(_LENGTH.size))
            told: dict[str, Any] = json.loads(reader.read(length))
            if told["version"] != VERSION or told["subjects"] > MAX_SUBJECTS:
                raise DamagedRecordError("the search index is of another version: it is made anew")
            return _content(reader, told)
    except OSError:
        return None


def _content(reader: SealedReader, told: dict[str, Any]) -> Indexed:
    count, values, negatives = told["subjects"], told["values"], told["negatives"]
    ids = reader.read(told["ids_bytes"]).decode()
    rows = _array(reader, (count,), "<i8")
    templates = _array(reader, (count, values), "<f4")
    codebook = _array(reader, tuple(told["codebook"]), "<f4")
    codes = _array(reader, (count, told["code_bytes"]), "u1")
    strange = _array(reader, (negatives, values), "<f4")
    whose = _array(reader, (negatives,), "<i8")
    reader.finish()
    details = [_PLAIN] * count
    for number, fields in told["details"].items():
        details[int(number)] = SubjectDetails.model_validate(fields)
    return Indexed(
        subject_ids=tuple(ids.split("\n")) if count else (),
        rows=rows,
        templates=templates,
        codes=Codes(codebook, codes),
        details=tuple(details),
        negatives=strange,
        negative_subject=whose,
    )


def _array(reader: SealedReader, shape: tuple[int, ...], kind: str) -> NDArray[Any]:
    array = np.empty(shape, kind)
    if array.size:
        reader.read_into(array.data)
    return array


def _bound_to(store: Store, model_id: str) -> bytes:
    return context("search index", store.vault.gallery_uid, model_id)
