"""Scenes: boxes and landmarks lie on the pixels that they name, wherever a picture is put."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from limen.train.finder.backdrops import face_free_part, pattern
from limen.train.finder.labels import Labels
from limen.train.finder.placing import mirrored, place
from limen.train.finder.scenes import SceneSettings, compose
from limen.train.finder.source import open_labelled


class OneHead:
    """A source of one drawn head, and its reduced sizes."""

    def __init__(self, image: np.ndarray, box: np.ndarray, points: np.ndarray) -> None:
        self.image = image
        self.known = Labels("x", box[None], points[None], np.zeros((0, 4), np.float32))
        self.asked: list[float] = []

    def __len__(self) -> int:
        return 1

    def labels(self, index: int) -> tuple[Labels, tuple[int, int]]:
        return self.known, (self.image.shape[0], self.image.shape[1])

    def read(self, index: int, scale: float = 1.0) -> np.ndarray:
        self.asked.append(scale)
        step = 2 if scale <= 0.5 else 1
        height, width = (extent // step * step for extent in self.image.shape[:2])
        blocks = self.image[:height, :width].reshape(height // step, step, width // step, step, 3)
        return blocks.mean((1, 3)).astype(np.uint8)


@pytest.fixture
def one_head(draw: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]) -> OneHead:
    return OneHead(*draw(3))


@pytest.mark.parametrize("scale", [1.4, 1.0, 0.7, 0.45, 0.2])
@pytest.mark.parametrize("degrees", [0, 25])
def test_landmarks_lie_on_the_dark_dots_of_a_drawn_head(
    one_head: OneHead, scale: float, degrees: int
) -> None:
    source, angle = one_head, np.deg2rad(degrees)
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    box = source.known.boxes_xyxy[0]
    shift = np.array([128, 128]) - turn @ ((box[:2] + box[2:]) / 2)
    matrix = np.concatenate([turn, shift[:, None]], 1)
    scene = place(0, (256, 256), matrix, np.random.default_rng(0), source)
    size = scale * (box[2:] - box[:2])
    assert np.allclose(scene.boxes_xyxy[0], [*(128 - size / 2), *(128 + size / 2)], atol=0.01)
    grey = scene.image.astype(float).mean(2)
    reach = max(2, round(0.09 * size[1]))
    for x, y in scene.landmarks_xy[0]:
        left, top = round(x) - reach, round(y) - reach
        around = grey[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
        darkness = np.maximum(0.6 * around.max() - around, 0)
        rows, columns = np.mgrid[: around.shape[0], : around.shape[1]]
        centre = np.array([(darkness * columns).sum(), (darkness * rows).sum()]) / darkness.sum()
        assert np.abs(centre + np.array([left - x, top - y])).max() < 0.7


def test_a_mirror_keeps_the_pictures_left_first(one_head: OneHead) -> None:
    source = one_head
    scene = place(0, (240, 200), np.eye(2, 3), np.random.default_rng(0), source)
    other = mirrored(scene)
    assert other.landmarks_xy[0, 0, 0] < other.landmarks_xy[0, 1, 0]
    assert other.landmarks_xy[0, 3, 0] < other.landmarks_xy[0, 4, 0]
    twice = mirrored(other)
    assert np.array_equal(twice.image, scene.image)
    assert np.allclose(twice.landmarks_xy, scene.landmarks_xy, atol=1e-4)
    assert np.allclose(twice.boxes_xyxy, scene.boxes_xyxy, atol=1e-4)


def test_what_lies_mostly_outside_is_ignored_and_what_lies_far_outside_forgotten(
    one_head: OneHead,
) -> None:
    source = one_head
    box = source.known.boxes_xyxy[0]
    width = box[2] - box[0]

    def moved(visible: float) -> np.ndarray:
        return np.array([[1, 0, visible * width - box[2]], [0, 1, 0]], np.float64)

    whole, part, gone = (
        place(0, (240, 200), moved(share), np.random.default_rng(0), source)
        for share in (0.6, 0.3, -0.5)
    )
    assert len(whole.boxes_xyxy) == 1
    assert whole.boxes_xyxy[0, 0] == 0
    assert (len(part.boxes_xyxy), len(part.ignored_xyxy)) == (0, 1)
    assert (len(gone.boxes_xyxy), len(gone.ignored_xyxy)) == (0, 0)


def test_a_scene_follows_from_its_generator_alone(heads: Path) -> None:
    source = open_labelled(heads, held_out=False)
    settings = SceneSettings(96, 128, mosaic=0.5, background=0.2)
    for number in range(6):
        first, second = (compose(source, settings, np.random.default_rng(number)) for _ in "ab")
        assert first.image.shape == (96, 128, 3)
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.boxes_xyxy, second.boxes_xyxy)
        assert len(first.boxes_xyxy) == len(first.landmarks_xy)
        if len(first.boxes_xyxy):
            assert first.boxes_xyxy.min() >= 0
            assert (first.boxes_xyxy.max(0) <= [128, 96, 128, 96]).all()


def test_scenes_of_nothing_hold_no_face(heads: Path) -> None:
    source = open_labelled(heads, held_out=False)
    settings = SceneSettings(96, 128, mosaic=0, background=1)
    for number in range(10):
        scene = compose(source, settings, np.random.default_rng(number))
        assert len(scene.boxes_xyxy) == len(scene.ignored_xyxy) == 0


def test_a_part_without_a_face_touches_none(one_head: OneHead) -> None:
    source = one_head
    labels, size = source.labels(0)
    box, found = labels.boxes_xyxy[0], 0
    for seed in range(60):
        part = face_free_part(labels, size, (60, 80), np.random.default_rng(seed))
        if part is None:
            continue
        found += 1
        assert part.min() >= 0
        assert part[2] <= size[1] + 1e-6
        assert part[3] <= size[0] + 1e-6
        assert (part[2] - part[0]) / (part[3] - part[1]) == pytest.approx(80 / 60)
        assert (np.minimum(part[2:], box[2:]) <= np.maximum(part[:2], box[:2])).any()
    assert found > 20


def test_patterns_fill_the_frame_and_differ() -> None:
    drawn = [pattern((48, 64), np.random.default_rng(seed)) for seed in range(12)]
    assert all(image.shape == (48, 64, 3) and image.dtype == np.uint8 for image in drawn)
    assert len({image.tobytes() for image in drawn}) == 12
