"""Pictures of nobody known, labelled by group: what a model card's false-match rates by age, gender
and ethnicity stand on.

A folder of shards that `limen prepare` wrote, with a teacher's embeddings, and `groups.csv` beside
them: a row for each picture, `picture` (the name it was prepared from) and a column for each
attribute. Names of people never come into it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.export.errors import ExportError
from limen.images import decode_picture, letterbox
from limen.train.shards import find_shards, iterate_shard

GROUPS_FILE = "groups.csv"
PICTURE = "picture"
# Above this cosine of a teacher, two pictures are taken for one face seen twice.
NEAR_DUPLICATE = 0.8
MAX_ATTRIBUTES = 16


@dataclass(frozen=True)
class GroupedPictures:
    """crops: (n, px, px, 3) uint8 RGB; groups: for each attribute n values, '' where unknown;
    duplicates: how many near-duplicates were left out.
    """

    name: str
    crops: NDArray[np.uint8]
    groups: Mapping[str, Sequence[str]]
    duplicates: int


def read_grouped_pictures(folder: Path, px: int) -> GroupedPictures:
    """Read `folder`; near-duplicates, by its teacher's embeddings, are left out.

    ExportError with what is missing or wrong.
    """
    attributes, labels = _read_labels(folder / GROUPS_FILE)
    crops, rows, teacher = [], [], []
    for shard in find_shards(folder):
        for sample in iterate_shard(shard):
            source = sample.note.get("source")
            if sample.picture is None or not isinstance(source, str) or source not in labels:
                continue
            if not sample.teachers:
                raise ExportError(
                    f"{shard}: no teacher's embeddings, by which near-duplicates are left out; "
                    "prepare the pictures with --teacher"
                )
            crops.append(letterbox(decode_picture(sample.picture), px))
            rows.append(labels[source])
            teacher.append(next(iter(sample.teachers.values())))
    if len(crops) < 2:
        raise ExportError(
            f"{folder}: {len(crops)} pictures of its shards have a row in {GROUPS_FILE}, two are "
            f"needed; its column '{PICTURE}' holds the names that the pictures were prepared from"
        )
    kept = _without_near_duplicates(np.stack(teacher))
    return GroupedPictures(
        name=folder.name,
        crops=np.stack(crops)[kept],
        groups={name: [rows[i][k] for i in kept] for k, name in enumerate(attributes)},
        duplicates=len(crops) - len(kept),
    )


def _read_labels(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The attributes' names, and their values by picture."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ExportError(
            f"{path}: cannot be read ({error}); it is a CSV with the column '{PICTURE}' and one "
            "for each attribute"
        ) from error
    if not rows or rows[0][:1] != [PICTURE] or not 1 < len(rows[0]) <= MAX_ATTRIBUTES + 1:
        raise ExportError(
            f"{path}: expected a first line '{PICTURE},age,gender' or the like, found "
            f"'{','.join(rows[0]) if rows else 'nothing'}'"
        )
    labels: dict[str, list[str]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise ExportError(
                f"{path}, line {number}: {len(row)} columns, the first has {len(rows[0])}"
            )
        if row[0] in labels:
            raise ExportError(f"{path}, line {number}: this picture has a line already")
        labels[row[0]] = [value.strip() for value in row[1:]]
    return rows[0][1:], labels


def _without_near_duplicates(embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
    """Row numbers that are kept: no two of them are nearer than NEAR_DUPLICATE. (n, D) -> (k,)."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True).clip(1e-12)
    kept: list[int] = []
    for row in range(len(unit)):
        if not kept or float((unit[kept] @ unit[row]).max()) < NEAR_DUPLICATE:
            kept.append(row)
    return np.array(kept, np.int64)
