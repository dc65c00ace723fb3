"""Timing that a busy machine cannot tilt: whoever is compared takes turns in one run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.bundle import Bundle
from limen.errors import BundleError
from limen.golden import decode_golden

WARM_UP, MIN_ROUNDS, MAX_ROUNDS = 3, 5, 300
FRAME_PX = (480, 640)
FIGURE_PX = 160

Key = TypeVar("Key", bound=Hashable)


def race(
    runners: Mapping[Key, Callable[[], object]],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, list[float]]:
    """Seconds of each runner's turns. They take turns, so that a busy moment hits all of them.

    After a warm-up, rounds until `seconds` are over, at least 5 and at most 300.
    """
    for run in runners.values():
        for _ in range(WARM_UP):
            run()
    took: dict[Key, list[float]] = {key: [] for key in runners}
    end = clock() + seconds
    for number in range(MAX_ROUNDS):
        if not runners or (number >= MIN_ROUNDS and clock() >= end):
            break
        for key, run in runners.items():
            started = clock()
            run()
            took[key].append(clock() - started)
    return took


def figures(bundle: Bundle) -> NDArray[np.uint8]:
    """The golden pictures, (n, h, w, 3) uint8 RGB: drawn, of nobody. BundleError without any."""
    golden = bundle.manifest.golden
    if golden is None:
        raise BundleError(
            f"'{bundle.manifest.name}' carries no golden inputs, so nothing can be checked here; "
            "export or pack it again with this version of limen"
        )
    inputs, _ = decode_golden(bundle.part(golden.path), golden, bundle.manifest.embedding_size)
    return inputs.pictures


def frame_of(figure: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame of 640 x 480 px with a golden figure in its middle, 160 px wide."""
    frame = np.full((*FRAME_PX, 3), 90, np.uint8)
    top, left = (FRAME_PX[0] - FIGURE_PX) // 2, (FRAME_PX[1] - FIGURE_PX) // 2
    large = cv2.resize(figure, (FIGURE_PX, FIGURE_PX))
    frame[top : top + FIGURE_PX, left : left + FIGURE_PX] = large
    return frame


def thread_counts() -> list[int]:
    """1, 2, 4 … up to the processors that this process may use."""
    processors = len(os.sched_getaffinity(0))
    return [n for n in (1, 2, 4, 8) if n <= processors]
