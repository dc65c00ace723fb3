"""From a 640 x 480 frame with one face to a decision: limen, YuNet + SFace, face_recognition.

    python benchmarks/door_reach.py --yunet YUNET.onnx --sface SFACE.onnx
    OMP_NUM_THREADS=1 python benchmarks/door_reach.py --threads 1 --cpu-time …    # a machine that is busy

All with two threads (`--threads`) and 1,000 references, on scikit-image's astronaut, in one run and in
turn, so that a busy moment hits all of them; the ratio is the median of each round's. face_recognition
is left out where it cannot be imported: `pip install dlib-bin face_recognition_models`, then
`pip install --no-deps face_recognition`. limen runs as its bundle says, and at other pairs of graphs
that `limen tune` may choose. The last part holds 10,000 references against 10. Quote ratios.

On a machine that does other work, wall time tells who was kept waiting, not who works longer; with one
thread, --cpu-time takes the processor's time instead.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.data import astronaut

import limen
from limen.device.peers import FaceRecognitionPeer, OpenCvPeer, has_face_recognition
from limen.device.recogniser import Recogniser
from limen.device.stages import THRESHOLD, Bench, DoorStages, Peer, bench, strangers

REFERENCES = 1_000


def main() -> None:
    """Print what each takes, and the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--yunet", type=Path)
    parser.add_argument("--sface", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    run = partial(bench, picture(), seconds=arguments.seconds, clock=clock)
    print(f"load averages {os.getloadavg()}, {len(os.sched_getaffinity(0))} processors")
    peers: list[Peer] = []
    if arguments.yunet and arguments.sface:
        peers.append(OpenCvPeer(arguments.yunet, arguments.sface, REFERENCES))
    if has_face_recognition():
        peers.append(FaceRecognitionPeer(REFERENCES))
    pairs = [(None, None), ("tflite", "int8"), ("tflite", "float16"), ("onnx", "int8")]
    for runtime, precision in pairs:
        door = stages(runtime, precision, REFERENCES, arguments.threads, clock)
        name = "as the bundle says" if runtime is None else f"{runtime}, {precision}"
        tell(name, run(door, REFERENCES, peers=peers))
    many = Other(stages(None, None, 10_000, arguments.threads, clock))
    few = stages(None, None, 10, arguments.threads, clock)
    found = run(few, 10, peers=[many])
    print(f"10,000 references take {found.peers[0].times_as_long:.3f} times as long as 10")


class Other:
    """A door as somebody's peer."""

    name = "10,000 references"

    def __init__(self, door: DoorStages) -> None:
        self._door = door

    def decide(self, image: NDArray[np.uint8]) -> bool:
        self._door.run(image)
        return False


def stages(
    runtime: str | None,
    precision: str | None,
    references: int,
    threads: int,
    clock: Callable[[], float],
) -> DoorStages:
    bundle = limen.open_bundle()
    finder = "int8" if precision == "int8" and runtime == "tflite" else None
    detector = bundle.detector(runtime=runtime, threads=threads, precision=finder)
    embedder = bundle.embedder(runtime, precision, detector, threads)
    size = bundle.manifest.embedding_size
    recogniser = Recogniser(strangers(references, size), THRESHOLD)
    return DoorStages(detector, embedder, recogniser, clock)


def picture() -> NDArray[np.uint8]:
    """The astronaut's upper half in a frame of 640 x 480 px, the face about 120 px."""
    return np.asarray(cv2.resize(astronaut()[:384, :512], (640, 480)), np.uint8)


def tell(name: str, found: Bench) -> None:
    spent = ", ".join(f"{stage.name} {stage.median_ms:.2f}" for stage in found.stages)
    print(f"{name}: {found.whole.median_ms:.2f} ms ({spent}), {found.rounds} rounds")
    for peer in found.peers:
        print(
            f"    {peer.name:18} {peer.median_ms:8.1f} ms   {peer.times_as_long:6.1f} times as long"
        )


if __name__ == "__main__":
    main()
