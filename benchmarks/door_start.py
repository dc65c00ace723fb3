"""From the start of a process to its first decision, and how much memory `limen run` holds.

    python benchmarks/door_start.py [--starts 15]

Two kinds of process in turn. The first imports cv2 and numpy and loads the bundle's finder and embedder
into LiteRT, and does nothing with them. The second imports limen, opens bundle and gallery, and decides
on one frame. Of both the processor's time counts (user and system, all threads), since a busy machine
keeps a process waiting. Then `limen run` plays a folder of 64 pictures, with names, audit log and all;
its peak of resident memory is the kernel's. The person is scikit-image's astronaut. Quote the ratio.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from skimage.data import astronaut

MODEL_ALONE = """
import sys, cv2, numpy
from ai_edge_litert.interpreter import Interpreter
for path in sys.argv[1:]:
    Interpreter(model_path=path, num_threads=1).allocate_tensors()
"""

FIRST_DECISION = """
import sys
from pathlib import Path
import numpy
import limen
from limen.device.gallery import Gallery
from limen.device.loading import load_recogniser
from limen.device.models import open_models
from limen.device.values import Frame
from limen.recognition import acquire
gallery, picture = map(Path, sys.argv[1:])
detector, embedder = open_models(limen.open_bundle(), gallery)
with Gallery.open(gallery, model_id=embedder.model_id) as opened:
    recogniser = load_recogniser(opened, embedder.model_id)
image = numpy.load(picture)
decision = recogniser.decide(acquire(image, detector, embedder), Frame(image, 0.0, 0))
assert decision.outcome == "match", decision.outcome
"""


def main() -> None:
    """Print the ratio and the memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=15)
    starts = parser.parse_args().starts
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graphs, gallery, picture, frames = prepared(folder)
        alone = [sys.executable, "-c", MODEL_ALONE, *map(str, graphs)]
        first = [sys.executable, "-c", FIRST_DECISION, str(gallery), str(picture)]
        taken: list[tuple[float, float]] = []
        for number in range(starts + 1):
            pair = cpu_s(alone), cpu_s(first)
            if number:  # the first pair warms the disk's cache
                taken.append(pair)
        print(f"cv2, numpy and the model alone: {statistics.median(a for a, _ in taken):.2f} s")
        print(f"import to first decision:       {statistics.median(f for _, f in taken):.2f} s")
        print(f"ratio:                          {statistics.median(f / a for a, f in taken):.2f}")
        run = ["run", "--source", frames, "--gallery", gallery, "--min-face-px", "40"]
        process = subprocess.Popen(
            [sys.executable, "-m", "limen.cli.main", *map(str, run)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        told = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, status
        assert b'"opened"' in told, told
        print(f"limen run, peak resident:       {usage.ru_maxrss * 1024 / 1e6:.0f} MB")


def prepared(folder: Path) -> tuple[list[Path], Path, Path, Path]:
    """The bundle's default graphs as files, a calibrated gallery, a frame, a folder of pictures."""
    import limen

    bundle = limen.open_bundle()
    graphs = []
    for graph in (bundle.graph("tflite"), *bundle.manifest.finder_graphs):
        if graph.runtime == "tflite" and (graph.role == "embedder" or graph.precision == "float32"):
            graphs.append(folder / graph.path)
            graphs[-1].write_bytes(bundle.part(graph.path))
    frames = folder / "frames"
    frames.mkdir()
    for number in range(64):
        shot = cv2.convertScaleAbs(astronaut()[:384, :512], alpha=0.9 + 0.003 * number)
        large = cv2.cvtColor(cv2.resize(shot, (640, 480)), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(frames / f"{number:03}.jpg"), large)
    frame = folder / "frame.npy"
    np.save(frame, cv2.cvtColor(large, cv2.COLOR_BGR2RGB))
    gallery = folder / "gallery.db"
    shots = [str(frames / f"{number:03}.jpg") for number in (0, 20, 40, 60)]
    for verb in (["enrol", "eileen", *shots], ["calibrate", "--max-fmr", "1e-2"]):
        command = [sys.executable, "-m", "limen.cli.main", *verb, "--gallery", str(gallery)]
        subprocess.run(command, check=True, capture_output=True)
    return graphs, gallery, frame, frames


def cpu_s(command: list[str]) -> float:
    """Seconds of processor that a command takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
