"""Labelled pictures in memory: small, with their labels, one in twenty held out."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from limen.train.finder.labels import Labels
from limen.train.finder.source import (
    SMALL_SIDE_PX,
    FinderDataError,
    LabelledPictures,
    is_held_out,
    open_labelled,
)


def test_one_picture_in_twenty_is_held_out_and_named_ones_are_left_out(heads: Path) -> None:
    fit, held_out = open_labelled(heads, False), open_labelled(heads, True)
    assert len(fit) + len(held_out) == 60
    assert all(is_held_out(held_out.name(i)) for i in range(len(held_out)))
    gone = {fit.name(0), fit.name(1)}
    assert len(open_labelled(heads, False, gone)) == len(fit) - 2


def test_pictures_are_kept_small_with_their_labels(
    draw: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]], tmp_path: Path
) -> None:
    image, box, points = draw(1)
    large = cv2.resize(image, None, fx=6, fy=6, interpolation=cv2.INTER_LINEAR)
    cv2.imwrite(str(tmp_path / "large.png"), large[..., ::-1])
    labels = Labels("large.png", box[None] * 6, points[None] * 6, np.zeros((0, 4), np.float32))
    source = LabelledPictures([labels], tmp_path)
    known, (height, width) = source.labels(0)
    assert max(height, width) <= 640
    assert (known.boxes_xyxy[0, 2:] - known.boxes_xyxy[0, :2]).max() <= 300.5
    factor = width / large.shape[1]
    assert np.allclose(known.landmarks_xy[0], points * 6 * factor, atol=0.5)
    assert source.read(0).shape == (height, width, 3)
    small = source.read(0, 0.3)
    assert max(small.shape) == SMALL_SIDE_PX
    assert source.read(0, 0.1).shape[0] == -(-small.shape[0] // 2)
    enlarged = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).astype(float)
    assert np.abs(enlarged - source.read(0)).mean() < 4


def test_labels_without_any_face_are_refused(tmp_path: Path) -> None:
    nothing = Labels("x.jpg", *(np.zeros(s, np.float32) for s in ((0, 4), (0, 5, 2), (0, 4))))
    with pytest.raises(FinderDataError, match="label pictures of people first"):
        LabelledPictures([nothing], tmp_path)
