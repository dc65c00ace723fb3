"""Drawn heads with known boxes and landmarks, for finding without pictures of people."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from limen.images import encode_jpeg
from limen.train.finder.labels import Labels, append_labels

SHAPE = np.array([[-0.4, -0.3], [0.4, -0.3], [0, 0.05], [-0.3, 0.5], [0.3, 0.5]])


def drawn_head(
    seed: int, height: int = 240, width: int = 200
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture, the head's box (4,) and landmarks (5, 2), px."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), rng.integers(0, 90, 3), np.uint8)
    half = rng.uniform(30, 60)
    middle = np.array([rng.uniform(70, width - 70), rng.uniform(80, height - 80)])
    skin = tuple(int(v) for v in rng.integers(140, 255, 3))
    axes = (round(0.8 * half), round(half))
    cv2.ellipse(image, tuple(int(v) for v in middle), axes, 0, 0, 360, skin, -1)
    points = np.round(middle + SHAPE * half * 0.8)  # where the dots are drawn
    for x, y in points:
        cv2.circle(image, (round(x), round(y)), max(2, round(half / 10)), (20, 20, 20), -1)
    reach = np.array([0.8 * half, half])
    box = np.concatenate([middle - reach, middle + reach])
    return image, box.astype(np.float32), points.astype(np.float32)


def labelled_heads(folder: Path, count: int = 40) -> Path:
    """Pictures below `folder` and the file of their labels; every fifth landmarks unknown."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(count):
        image, box, points = drawn_head(seed)
        (folder / f"{seed:03d}.jpg").write_bytes(encode_jpeg(image, 95))
        known = np.full_like(points, np.nan) if seed % 5 == 0 else points
        rows.append(Labels(f"{seed:03d}.jpg", box[None], known[None], np.zeros((0, 4), np.float32)))
    file = folder / "labels.jsonl"
    list(append_labels(file, rows))
    return file


@pytest.fixture(scope="session")
def draw() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return drawn_head


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The labels of sixty drawn heads."""
    return labelled_heads(tmp_path_factory.mktemp("heads"), 60)
