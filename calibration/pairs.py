"""LFW's View 2: a list of pairs in folds, and the ten-fold accuracy that peers report.

Huang et al., "Labeled Faces in the Wild", UMass Amherst TR 07-49, 2007, section "View 2".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.errors import CalibrationError

MAX_LIST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures, by name and number, and whether they show one person."""

    first: tuple[str, int]
    second: tuple[str, int]
    mated: bool
    fold: int


@dataclass(frozen=True, slots=True)
class TenFold:
    """accuracy: mean over folds; deviation: the folds' standard deviation (ddof 1).

    thresholds: the best of the other folds, for each fold.
    """

    accuracy: float
    deviation: float
    thresholds: tuple[float, ...]


def read_pairs(path: Path) -> list[Pair]:
    """Read an LFW pair list: `folds<TAB>pairs` first, then `name n m` or `name n other m`.

    CalibrationError with the line that is wrong.
    """
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise CalibrationError(f"{path}: larger than {MAX_LIST_BYTES // 2**20} MiB")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: the list of pairs cannot be read ({error})") from error
    if not lines:
        raise CalibrationError(f"{path}: the list of pairs is empty")
    header = lines[0].split()
    if not 1 <= len(header) <= 2 or not all(word.isdigit() for word in header):
        raise CalibrationError(
            f"{path}, line 1: expected the number of folds and of pairs, as in LFW's pairs.txt"
        )
    folds, per_kind = (int(header[0]), int(header[1])) if len(header) == 2 else (1, int(header[0]))
    body = [(number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
    if folds < 1 or per_kind < 1 or len(body) != 2 * folds * per_kind:
        raise CalibrationError(
            f"{path}: line 1 announces {2 * folds * per_kind} pairs, found {len(body)}"
        )
    return [
        _parse(line, position // (2 * per_kind), path, number)
        for position, (number, line) in enumerate(body)
    ]


def _parse(line: str, fold: int, path: Path, number: int) -> Pair:
    words = line.split("\t") if "\t" in line else line.split()
    try:
        if len(words) == 3:
            name, first, second = words
            return Pair((name, int(first)), (name, int(second)), True, fold)
        name, first, other, second = words
        return Pair((name, int(first)), (other, int(second)), False, fold)
    except ValueError:
        raise CalibrationError(
            f"{path}, line {number}: expected 'name n m' or 'name n other m', found '{line[:80]}'"
        ) from None


def find_pair_picture(images: Path, name: str, number: int) -> Path | None:
    """The picture `NAME/NAME_0001.jpg` below `images`, whatever its suffix; None where missing."""
    if "/" in name or "\\" in name or name in {"", ".", ".."}:
        return None
    folder = images / name
    for suffix in (".jpg", ".png", ".jpeg", ".webp", ".bmp"):
        path = folder / f"{name}_{number:04d}{suffix}"
        if path.is_file():
            return path
    return None


def ten_fold_accuracy(
    scores: NDArray[np.float64], mated: NDArray[np.bool_], fold: NDArray[np.int64]
) -> TenFold:
    """Accuracy on each fold at the threshold that is best on the others.

    All (n,). A pair is accepted when `score >= threshold`; among equally good thresholds the
    lowest is taken. CalibrationError for fewer than two folds.
    """
    numbers: Sequence[int] = sorted(set(fold.tolist()))
    if len(numbers) < 2:
        raise CalibrationError("ten-fold accuracy needs two folds or more; the list has one")
    accuracies, thresholds = [], []
    for number in numbers:
        test = fold == number
        threshold = best_accuracy_threshold(scores[~test], mated[~test])
        accuracies.append(float(np.mean((scores[test] >= threshold) == mated[test])))
        thresholds.append(threshold)
    values = np.array(accuracies)
    return TenFold(float(values.mean()), float(values.std(ddof=1)), tuple(thresholds))


def best_accuracy_threshold(scores: NDArray[np.float64], mated: NDArray[np.bool_]) -> float:
    """The lowest threshold among those that decide most of the scores, (n,), rightly."""
    order = np.argsort(scores, kind="stable")
    ordered, labels = scores[order], mated[order]
    # Threshold at ordered[i]: everything from i on is accepted, everything before it rejected.
    rejected_right = np.concatenate([[0], np.cumsum(~labels)])
    accepted_right = labels.sum() - np.concatenate([[0], np.cumsum(labels)])
    correct = rejected_right + accepted_right
    first_of_tie = np.concatenate([[True], ordered[1:] != ordered[:-1], [True]])
    best = int(np.argmax(np.where(first_of_tie, correct, -1)))
    return float(ordered[best]) if best < len(ordered) else float(np.nextafter(ordered[-1], np.inf))
