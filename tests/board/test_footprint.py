"""What a door takes: memory, over 20,000 frames and at its peak, and time to stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from limen.images import encode_jpeg, read_picture

HERE = Path(__file__).parent
MAX_GROWTH_MB = 2.0
MAX_RESIDENT_MB = 150.0
FRAMES = 20_000


def python(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=3000,
        check=False,
    )


def soak(frames: int, people: Path, folder: Path) -> dict[str, object]:
    shutil.copytree(people, folder, dirs_exist_ok=True)
    done = python(HERE / "soak.py", frames, folder)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    print(told)
    assert told["frames"] == frames
    assert told["opened"] >= told["visits"] > 0  # each visit's member came in
    return told


def test_1000_frames_open_the_door_under_the_limit(people: Path, tmp_path: Path) -> None:
    told = soak(1000, people, tmp_path)
    assert told["growth_mb"] <= MAX_GROWTH_MB
    # Otherwise the limit of `soak.py` would limit nothing.
    leaky = python(
        "-c",
        "import sys; sys.path.insert(0, sys.argv[1]); sys.argv = ['soak', '1000', sys.argv[2]]\n"
        "import soak, pathlib; kept = []; plain = soak.JsonLines.emit\n"
        "def emit(self, event): kept.append(bytearray(100_000)); plain(self, event)\n"
        "soak.JsonLines.emit = emit\n"
        "soak.main(1000, pathlib.Path(sys.argv[2]))",
        *(HERE, _again(people, tmp_path / "leaky")),
    )
    assert leaky.returncode != 0
    assert "MemoryError" in leaky.stderr


def _again(people: Path, folder: Path) -> Path:
    shutil.copytree(people, folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_20000_frames_grow_within_2_mb(people: Path, tmp_path: Path) -> None:
    assert soak(FRAMES, people, tmp_path)["growth_mb"] <= MAX_GROWTH_MB


@pytest.fixture(scope="module")
def door(people: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a door with one member, calibrated."""
    environment = {"LIMEN_GALLERY": str(tmp_path_factory.mktemp("door") / "gallery.db")}
    shots = [people / f"person-{number}.jpg" for number in range(3)]
    for arguments in (("enrol", "ann", *shots), ("calibrate", "--max-fmr", "1e-2")):
        done = python("-m", "limen.cli.main", *arguments, **environment)
        assert done.returncode == 0, done.stderr
    return environment


# 150 MB is said of 640 x 480 px; four times the pixels lie in memory several times while they are
# decoded, and were measured at 147 to 151.
@pytest.mark.parametrize(("width_px", "most_mb"), [(640, MAX_RESIDENT_MB), (1280, 160.0)])
def test_running_door_takes_150_mb(
    width_px: int, most_mb: float, people: Path, door: dict[str, str], tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    member, rng = read_picture(people / "person-3.jpg"), np.random.default_rng(0)
    for number in range(12):
        noisy = np.clip(member + rng.normal(0, 2, member.shape), 0, 255).astype(np.uint8)
        image = np.full((480, 640, 3), 90, np.uint8)
        image[100:420, 150:490] = noisy
        image = cv2.resize(image, (width_px, width_px * 3 // 4))
        (frames / f"{number:02}.jpg").write_bytes(encode_jpeg(image))
    done = python(HERE / "door_program.py", "--source", frames, **door)
    assert done.returncode == 0, done.stderr
    assert '"event":"opened"' in done.stdout
    told = json.loads(done.stderr.splitlines()[-1])
    print(width_px, told)
    assert told["heavy"] == []  # one runtime, no scipy, no torch
    assert told["peak_mb"] <= most_mb


@pytest.mark.parametrize("source", ["camera:63", "rtsp://127.0.0.1:{silent}/door"])
def test_door_stops_within_two_seconds_whatever_it_waits_for(
    source: str, door: dict[str, str], silent_port: int
) -> None:
    """Also while a network camera is opened that takes the connection and says nothing."""
    named = source.format(silent=silent_port)
    with subprocess.Popen(
        [sys.executable, "-m", "limen.cli.main", "run", "--source", named],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **door},
        text=True,
    ) as running:
        assert running.stdout is not None
        try:
            assert json.loads(running.stdout.readline())["event"] == "started"
            time.sleep(0.7)
            asked_s = time.monotonic()
            running.send_signal(signal.SIGTERM)
            told, log = running.communicate(timeout=20)
            took_s = time.monotonic() - asked_s
        finally:
            running.kill()
    assert running.returncode == 0, log
    assert json.loads(told.splitlines()[-1])["event"] == "stopped"
    assert took_s < 2.0
