"""Subjects and their references: what a gallery hands out, and what a subject may be called."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.errors import GalleryError

MAX_SUBJECT_ID_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class SubjectRecord:
    """An enrolled subject: how many references, and when the first was enrolled (UTC, ISO 8601)."""

    subject_id: str
    references: int
    enrolled_at: str


@dataclass(frozen=True, slots=True)
class References:
    """All references of a gallery.

    subject_ids: sorted; subject: (n,) int64, index into `subject_ids`; embeddings: (n, D) float32
    of unit norm, in the order of enrolment within a subject. (0, 0) for an empty gallery.
    """

    subject_ids: tuple[str, ...]
    subject: NDArray[np.int64]
    embeddings: NDArray[np.float32]


def checked_subject_id(text: str) -> str:
    """Return `text` in Unicode NFC, so that one name typed on two keyboards is one subject.

    GalleryError unless it then has 1 to 64 characters, all printable (no line breaks, control or
    invisible characters), and no space at either end. The message does not repeat it.
    """
    subject_id = unicodedata.normalize("NFC", text)
    if not 1 <= len(subject_id) <= MAX_SUBJECT_ID_CHARACTERS:
        raise GalleryError(
            f"a subject id has 1 to {MAX_SUBJECT_ID_CHARACTERS} characters, "
            f"found {len(subject_id)}: choose another"
        )
    if not subject_id.isprintable():
        raise GalleryError(
            "a subject id has printable characters only, found a line break, control or invisible "
            "one: type it again"
        )
    if subject_id != subject_id.strip():
        raise GalleryError("a subject id neither starts nor ends with a space: remove the space")
    return subject_id
