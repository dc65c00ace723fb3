"""What the demonstration's tests share: stand-ins for a trained embedder and its cohort."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from limen.bundle import CohortEmbeddings
from limen.demo.people import Cast, demo_people
from limen.embedder import unit_norm
from limen.haar import HaarDetector

PATCH_PX = 16


class PixelEmbedder:
    """An embedder of no training: the aligned crop's own edges, coarse. It tells two people apart
    in pictures as alike as the demonstration's, and would not do so anywhere else."""

    model_id = "pixels"

    def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = []
        for crop in aligned:
            grey = cv2.cvtColor(crop[16:100, 16:96], cv2.COLOR_RGB2GRAY)
            small = cv2.resize(grey, (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_AREA)
            values = small.astype(np.float32)
            row = (values - cv2.GaussianBlur(values, (0, 0), 4)).ravel()
            rows.append(row + 1e-3)
        return unit_norm(np.stack(rows))


@pytest.fixture(scope="session")
def cast() -> Cast:
    pytest.importorskip("skimage")
    pytest.importorskip("matplotlib")
    return demo_people()


@pytest.fixture
def embedder() -> PixelEmbedder:
    return PixelEmbedder()


@pytest.fixture
def detector() -> HaarDetector:
    return HaarDetector()


@pytest.fixture(scope="session")
def cohort() -> CohortEmbeddings:
    """Directions at random, as unlike one another as strangers should be."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4000, PATCH_PX * PATCH_PX)).astype(np.float32)
    return CohortEmbeddings(unit_norm(rows), np.repeat(np.arange(800), 5).astype(np.int64))
