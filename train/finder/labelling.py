"""Label the pictures of a folder, in an order that repeats, going on after an interruption."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.errors import PictureError
from limen.images import read_picture
from limen.train.finder.labels import Labels, append_labels, read_labels

Label = Callable[[NDArray[np.uint8], str], Labels]


@dataclass
class LabellingReport:
    """Counts of one labelling."""

    pictures: int = 0
    already_labelled: int = 0
    unreadable: int = 0
    without_face: int = 0
    faces: int = 0
    faces_with_landmarks: int = 0
    ignored: int = 0

    def add(self, labels: Labels) -> None:
        """Count one picture."""
        self.pictures += 1
        self.without_face += not len(labels.boxes_xyxy)
        self.faces += len(labels.boxes_xyxy)
        self.faces_with_landmarks += int((~np.isnan(labels.landmarks_xy).any((1, 2))).sum())
        self.ignored += len(labels.ignored_xyxy)


def label_pictures(
    pictures: Sequence[Path],
    out: Path,
    label: Label,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LabellingReport:
    """Append the labels of `pictures` to `out`; those that it holds already are passed over.

    Paths in it are relative to its own folder. A picture that cannot be read is counted and left
    out. LabelError where `out` exists and is not a file of labels.
    """
    report = LabellingReport()
    out.parent.mkdir(parents=True, exist_ok=True)
    known = {each.path for each in read_labels(out)} if out.exists() else set()

    def fresh() -> Iterator[Labels]:
        for done, picture in enumerate(pictures):
            progress(done, len(pictures))
            path = Path(os.path.relpath(picture, out.parent)).as_posix()
            if path in known:
                report.already_labelled += 1
                continue
            try:
                image = read_picture(picture)
            except PictureError:
                report.unreadable += 1
                continue
            yield label(image, path)

    for labels in append_labels(out, fresh()):
        report.add(labels)
    progress(len(pictures), len(pictures))
    return report
