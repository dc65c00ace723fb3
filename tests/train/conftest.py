"""A small folder of synthetic pictures by class, for training in seconds."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from limen.images import encode_jpeg

CLASSES = 24


def make_folder(folder: Path, classes: int = CLASSES, takes: int = 5) -> Path:
    """Each class is a pattern of its own; each take changes it a little."""
    for number in range(classes):
        own = np.random.default_rng(number).uniform(0, 255, (6, 6, 3))
        target = folder / f"class-{number:03d}"
        target.mkdir(parents=True)
        for take in range(takes):
            noise = np.random.default_rng([number, take]).normal(0, 10, own.shape)
            image = cv2.resize((own + noise).astype(np.float32), (112, 112))
            content = encode_jpeg(np.clip(image, 0, 255).astype(np.uint8))
            (target / f"{take}.jpg").write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("classes"))
