"""Alignment: the closed form against least squares, and its promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.alignment import TEMPLATE_XY, align, similarity_transform
from limen.errors import PictureError

coordinates = st.floats(-500, 500, allow_nan=False, width=32)
points = st.lists(st.tuples(coordinates, coordinates), min_size=5, max_size=5)


@given(points)
def test_the_closed_form_is_the_least_squares_solution(landmarks) -> None:
    source = np.array(landmarks, np.float32)
    if np.ptp(source, axis=0).max() < 1:
        return
    # The slow truth: a, b, tx, ty of x' = a x - b y + tx, y' = b x + a y + ty.
    x, y = source.astype(np.float64).T
    one, nil = np.ones_like(x), np.zeros_like(x)
    design = np.concatenate([np.stack([x, -y, one, nil], 1), np.stack([y, x, nil, one], 1)])
    target = np.concatenate([TEMPLATE_XY[:, 0], TEMPLATE_XY[:, 1]]).astype(np.float64)
    a, b, tx, ty = np.linalg.lstsq(design, target, rcond=None)[0]
    matrix = similarity_transform(source, TEMPLATE_XY)
    assert np.allclose(matrix, [[a, -b, tx], [b, a, ty]], atol=2e-2)


@given(st.floats(-3, 3), st.floats(0.2, 5), st.floats(-100, 100), st.floats(-100, 100))
def test_a_similarity_is_recovered_exactly(angle, scale, dx, dy) -> None:
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (TEMPLATE_XY @ rotation.T + [dx, dy]).astype(np.float32)
    matrix = similarity_transform(moved, TEMPLATE_XY)
    back = moved @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(back, TEMPLATE_XY, atol=1e-2)


def test_landmarks_land_on_the_template() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    landmarks = (TEMPLATE_XY * 1.7 + [40, 60]).astype(np.float32)
    for x, y in landmarks:
        image[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4] = 255
    crop = align(image, landmarks)
    assert crop.shape == (112, 112, 3)
    for x, y in TEMPLATE_XY:
        assert crop[round(y), round(x)].min() > 100


def test_landmarks_in_one_point_are_refused() -> None:
    with pytest.raises(PictureError, match="coincide"):
        similarity_transform(np.full((5, 2), 3, np.float32), TEMPLATE_XY)
