"""Cells to faces, against plain loops."""

import math

import numpy as np
import pytest

from limen.anchors import (
    CELL_CHANNELS,
    STRIDES_PX,
    cells,
    decode,
    non_maximum_suppression,
    overlaps,
)

HEIGHT, WIDTH = 64, 96


def quiet(seed: int = 0) -> np.ndarray:
    """Answers of cells that see nothing, otherwise random."""
    count = sum(HEIGHT // s * (WIDTH // s) for s in STRIDES_PX)
    answers = np.random.default_rng(seed).normal(0, 0.3, (count, CELL_CHANNELS))
    answers[:, 0] = -6
    return answers.astype(np.float32)


def test_cells_are_listed_map_by_map_row_by_row() -> None:
    centres, strides = cells(HEIGHT, WIDTH)
    expected = [
        ((column + 0.5) * stride, (row + 0.5) * stride, stride)
        for stride in STRIDES_PX
        for row in range(HEIGHT // stride)
        for column in range(WIDTH // stride)
    ]
    assert np.array_equal(np.column_stack([centres, strides]), np.array(expected, np.float32))


@pytest.mark.parametrize("index", [0, 17, 95, 96, 119, 120, 125])
def test_one_cells_face_is_where_the_loop_says(index: int) -> None:
    answers = quiet(index)
    answers[index, 0] = 2.0
    (face,) = decode(answers, HEIGHT, WIDTH, 0.5)
    (x, y), stride = (part[index] for part in cells(HEIGHT, WIDTH))
    _, dx, dy, log_w, log_h, *points = answers[index].tolist()
    middle = x + dx * stride, y + dy * stride
    w, h = math.exp(log_w) * stride, math.exp(log_h) * stride
    box = [middle[0] - w / 2, middle[1] - h / 2, middle[0] + w / 2, middle[1] + h / 2]
    assert np.allclose(face.box_xyxy, box, atol=1e-3)
    for number in range(5):
        expected = x + points[2 * number] * stride, y + points[2 * number + 1] * stride
        assert np.allclose(face.landmarks_xy[number], expected, atol=1e-3)
    assert face.confidence == pytest.approx(1 / (1 + math.exp(-2.0)))


def test_neighbours_that_saw_the_same_face_vote_by_their_confidence() -> None:
    answers = quiet()
    centres, _ = cells(HEIGHT, WIDTH)
    first, second = 13, 14  # side by side on the finest map
    for index, logit, shift in ((first, 2.0, 0.0), (second, 1.0, 1.0)):
        answers[index] = 0
        answers[index, 0] = logit
        answers[index, 1] = (40 + shift - centres[index, 0]) / 8  # boxes one pixel apart
        answers[index, 3:5] = math.log(32 / 8)
        answers[index, 5::2] = (44 + 3 * shift - centres[index, 0]) / 8  # landmarks three
    (face,) = decode(answers, HEIGHT, WIDTH, 0.5)
    weights = [1 / (1 + math.exp(-2.0)), 1 / (1 + math.exp(-1.0))]
    share = weights[1] / sum(weights)
    assert np.allclose(face.landmarks_xy[:, 0], 44 + 3 * share, atol=1e-3)
    assert (face.box_xyxy[0] + face.box_xyxy[2]) / 2 == pytest.approx(40 + share, abs=1e-3)
    assert face.confidence == pytest.approx(weights[0])


def test_of_two_faces_apart_the_larger_comes_first() -> None:
    answers = quiet()
    answers[0, [0, 3, 4]] = 4.0, 0.0, 0.0
    answers[-1, [0, 3, 4]] = 1.0, 0.0, 0.0
    faces = decode(answers, HEIGHT, WIDTH, 0.5)
    assert len(faces) == 2
    assert faces[0].area_px > faces[1].area_px
    assert faces[0].confidence < faces[1].confidence


def test_answers_that_are_no_numbers_or_explode_give_no_face_or_a_bounded_one() -> None:
    answers = quiet()
    answers[3] = np.nan
    answers[4] = np.inf
    answers[5, [0, 3, 4]] = 3.0, 1e9, 1e9
    (face,) = decode(answers, HEIGHT, WIDTH, 0.5)
    assert np.isfinite(face.box_xyxy).all()


def test_answers_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected answers of shape \(126, 15\)"):
        decode(quiet()[:-1], HEIGHT, WIDTH, 0.5)


def test_overlaps_and_suppression_agree_with_loops() -> None:
    rng = np.random.default_rng(4)
    corners = rng.uniform(0, 60, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (40, 2))], 1).astype(np.float32)
    scores = rng.permutation(40).astype(np.float32) / 40 + 0.01

    def slow(a: np.ndarray, b: np.ndarray) -> float:
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        shared = max(width, 0) * max(height, 0)
        area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        return float(shared / (area - shared))

    assert np.allclose(overlaps(boxes[0], boxes), [slow(boxes[0], b) for b in boxes], atol=1e-5)
    kept: list[int] = []
    for index in np.argsort(-scores):
        if all(slow(boxes[index], boxes[k]) <= 0.4 for k in kept):
            kept.append(int(index))
    assert non_maximum_suppression(boxes, scores, 0.4).tolist() == kept
    assert len(non_maximum_suppression(boxes[:0], scores[:0], 0.4)) == 0
