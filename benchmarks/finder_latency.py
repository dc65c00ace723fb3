"""Finder time at 320 x 240 against YuNet through OpenCV, one thread, in one run.

    python benchmarks/finder_latency.py BUNDLE.limen YUNET.onnx

Whole `detect` calls, scaling and suppression included, on one picture with one face (scikit-image's
astronaut), the two taking turns so that a busy moment hits both. Prints the median and the best of
the repeats; on a machine that does other work only their ratio says something.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.data import astronaut

from limen.bundle import open_bundle
from limen.detection import Detector
from limen.finder import FinderDetector
from limen.yunet import YuNetDetector

WIDTH_PX, HEIGHT_PX = 320, 240


def main() -> None:
    """Time every runtime that is installed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("yunet", type=Path)
    parser.add_argument("--repeats", type=int, default=200)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    frame = _frame()
    bundle = open_bundle(arguments.bundle)
    detectors: dict[str, Detector] = {"YuNet, OpenCV": YuNetDetector(arguments.yunet)}
    for runtime in ("tflite", "onnx"):
        for precision in ("float32", "int8"):
            detector = bundle.detector(runtime=runtime, precision=precision)
            assert isinstance(detector, FinderDetector)
            detectors[f"finder, {runtime} {precision}"] = detector
    times_ms: dict[str, list[float]] = {name: [] for name in detectors}
    for repeat in range(arguments.repeats + 10):
        for name, detector in detectors.items():
            started = time.perf_counter()
            detector.detect(frame)
            if repeat >= 10:
                times_ms[name].append(1e3 * (time.perf_counter() - started))
    yunet = statistics.median(times_ms["YuNet, OpenCV"])
    print(f"{'':24} median ms  best ms  of YuNet")
    for name, values in times_ms.items():
        median = statistics.median(values)
        print(f"{name:24} {median:9.2f} {min(values):8.2f} {median / yunet:9.2f}")


def _frame() -> NDArray[np.uint8]:
    """The astronaut's upper half as a frame of 320 x 240 px, the face about 60 px."""
    picture = astronaut()[:384, :512]
    return np.asarray(
        cv2.resize(picture, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA), np.uint8
    )


if __name__ == "__main__":
    main()
