"""What is known about the faces of a picture, and the file it is kept in.

One JSON line a picture, so that an interrupted labelling goes on where it stopped and a person can
read what was decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.errors import LimenError

LANDMARKS = 5


class LabelError(LimenError, ValueError):
    """A file of labels cannot be read."""


@dataclass(frozen=True)
class Labels:
    """The faces of one picture.

    boxes_xyxy: (n, 4) float32 px; landmarks_xy: (n, 5, 2) float32 px, NaN where the teachers
    disagreed about them; ignored_xyxy: (m, 4) float32 px, where some teacher saw a face and others
    did not: neither face nor background.
    """

    path: str
    boxes_xyxy: NDArray[np.float32]
    landmarks_xy: NDArray[np.float32]
    ignored_xyxy: NDArray[np.float32]

    def to_json(self) -> str:
        """One line; unknown landmarks become null."""
        landmarks = [
            None if np.isnan(points).any() else np.round(points, 2).tolist()
            for points in self.landmarks_xy.astype(float)
        ]
        return json.dumps(
            {
                "path": self.path,
                "boxes_xyxy": np.round(self.boxes_xyxy.astype(float), 2).tolist(),
                "landmarks_xy": landmarks,
                "ignored_xyxy": np.round(self.ignored_xyxy.astype(float), 2).tolist(),
            }
        )

    @staticmethod
    def from_json(line: str) -> Labels:
        """The reverse of `to_json`. LabelError where the line is not one of its making."""
        try:
            row = json.loads(line)
            boxes = np.asarray(row["boxes_xyxy"], np.float32).reshape(-1, 4)
            unknown = [[np.nan, np.nan]] * LANDMARKS
            points = [unknown if p is None else p for p in row["landmarks_xy"]]
            landmarks = np.asarray(points, np.float32).reshape(-1, LANDMARKS, 2)
            ignored = np.asarray(row["ignored_xyxy"], np.float32).reshape(-1, 4)
            path = row["path"]
        except (ValueError, KeyError, TypeError) as error:
            raise LabelError(f"not a line of face labels: {line[:80]!r}") from error
        if not isinstance(path, str) or len(boxes) != len(landmarks):
            raise LabelError(f"not a line of face labels: {line[:80]!r}")
        return Labels(path, boxes, landmarks, ignored)


def read_labels(file: Path) -> list[Labels]:
    """All labels of a file; a last line that was cut by an interruption is left out.

    LabelError where any other line is damaged.
    """
    try:
        lines = file.read_text("utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{file}: the labels cannot be read ({error})") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            break
        try:
            found.append(Labels.from_json(line))
        except LabelError as error:
            raise LabelError(f"{file}, line {number}: {error}") from error
    return found


def append_labels(file: Path, labels: Iterable[Labels]) -> Iterator[Labels]:
    """Write each of `labels` to the end of `file` and pass it on.

    A line that an interruption cut is removed first.
    """
    if file.exists():
        whole = file.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) < len(whole):
            file.write_bytes(kept)
    with file.open("a", encoding="utf-8") as out:
        for each in labels:
            out.write(each.to_json() + "\n")
            out.flush()
            yield each
