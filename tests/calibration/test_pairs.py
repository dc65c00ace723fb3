"""LFW's list format and its ten-fold accuracy."""

import numpy as np
import pytest

from limen.calibration.pairs import find_pair_picture, read_pairs, ten_fold_accuracy
from limen.errors import CalibrationError


def test_a_list_is_read_by_fold(tmp_path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("2\t1\nA\t1\t2\nA\t1\tB\t3\nC\t4\t5\nC\t4\tD\t6\n")
    pairs = read_pairs(path)
    assert [pair.mated for pair in pairs] == [True, False, True, False]
    assert [pair.fold for pair in pairs] == [0, 0, 1, 1]
    assert pairs[3].second == ("D", 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("ten folds\n", "line 1"),
        ("1\t1\nA\t1\t2\n", "announces 2 pairs, found 1"),
        ("1\t1\nA\t1\t2\nA\t1\tB\tx\n", "line 3"),
    ],
)
def test_a_wrong_list_names_its_line(tmp_path, text, message) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=message):
        read_pairs(path)


def test_a_name_cannot_leave_the_folder(tmp_path) -> None:
    (tmp_path / "secret_0001.jpg").touch()
    (tmp_path / "images").mkdir()
    assert find_pair_picture(tmp_path / "images", "..", 1) is None
    assert find_pair_picture(tmp_path / "images", "../secret", 1) is None


def test_accuracy_is_what_an_exhaustive_search_finds() -> None:
    rng = np.random.default_rng(0)
    mated = rng.random(200) < 0.5
    scores = np.round(rng.normal(mated * 1.0, 0.7), 1)
    fold = np.arange(200) % 10
    accuracies = []
    for number in range(10):
        train, test = fold != number, fold == number
        candidates = [*sorted(set(scores[train])), np.inf]
        best = max(
            candidates,
            key=lambda t: (np.mean((scores[train] >= t) == mated[train]), -t),
        )
        accuracies.append(np.mean((scores[test] >= best) == mated[test]))
    found = ten_fold_accuracy(scores, mated, fold)
    assert found.accuracy == pytest.approx(np.mean(accuracies))
    assert found.deviation == pytest.approx(np.std(accuracies, ddof=1))


def test_one_fold_is_refused() -> None:
    with pytest.raises(CalibrationError, match="two folds"):
        ten_fold_accuracy(np.zeros(4), np.array([True, False] * 2), np.zeros(4, int))
