"""The one value that every use takes: embeddings with their names, labels and model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.errors import LimenError

UNLABELLED = -1


class EmbeddingsError(LimenError, ValueError):
    """Embeddings that cannot be used: damaged, of another size, without direction or labels."""


@dataclass(frozen=True)
class EmbeddingSet:
    """n embeddings, in the order of their names.

    name: n names, a picture's path within its folder or whatever a file gives; embeddings: (n, D)
    float32, finite, of unit norm where a bundle made them; label: (n,) int64, an index into
    label_names, or -1; model_id: what made them, '' where nobody says; folder: where the names are
    paths, None where they are not; box_xyxy: (n, 4) float32 px, the part of the picture; nearest:
    (n,) bool, whether it is the first of its picture, as the nearest face is.
    """

    name: tuple[str, ...]
    embeddings: NDArray[np.float32]
    label: NDArray[np.int64]
    label_names: tuple[str, ...]
    model_id: str = ""
    folder: Path | None = None
    box_xyxy: NDArray[np.float32] | None = None
    nearest: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.name)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> EmbeddingSet:
        """The rows of that number, or where `rows` holds."""
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return replace(
            self,
            name=tuple(self.name[row] for row in chosen),
            embeddings=self.embeddings[chosen],
            label=self.label[chosen],
            box_xyxy=None if self.box_xyxy is None else self.box_xyxy[chosen],
            nearest=None if self.nearest is None else self.nearest[chosen],
        )

    def labelled(self) -> EmbeddingSet:
        """The rows with a label, one a picture. EmbeddingsError for fewer than two labels."""
        rows = self.label != UNLABELLED
        if self.nearest is not None:  # a label is of a picture; bystanders in it are not meant
            rows = rows & self.nearest
        found = len(np.unique(self.label[rows]))
        if found < 2:
            raise EmbeddingsError(
                f"expected two labels or more, found {found}: put each class into a folder of its "
                "own, or give the file of embeddings an array 'label'"
            )
        return self.take(rows)

    def first_of_each_picture(self) -> EmbeddingSet:
        """One row a picture: the nearest face."""
        return self if self.nearest is None else self.take(self.nearest)

    def picture(self, row: int) -> Path | None:
        """The picture of a row, where it is known to lie in a folder."""
        return None if self.folder is None else self.folder / self.name[row]

    def unit(self) -> NDArray[np.float32]:
        """(n, D) float32 of unit norm. EmbeddingsError for a row without direction."""
        return unit_rows(self.embeddings)


def unit_rows(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row of (n, D) scaled to length 1. EmbeddingsError for a row of zeros."""
    norm = np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    if (norm < 1e-12).any():
        raise EmbeddingsError(
            f"embedding number {int(np.argmin(norm))} is all zeros and has no direction: leave it "
            "out, or choose --distance euclidean"
        )
    return np.asarray(embeddings / norm, np.float32)


def numbered_labels(labels: list[str | None]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as numbers (n,), -1 for none, and their names in order."""
    names = sorted({label for label in labels if label is not None})
    number = {name: index for index, name in enumerate(names)}
    rows = [UNLABELLED if label is None else number[label] for label in labels]
    return np.array(rows, np.int64), tuple(names)


def folder_label(name: str) -> str | None:
    """The class of a picture by its folder; None for one that lies at the top."""
    parent = name.rpartition("/")[0]
    return parent or None
