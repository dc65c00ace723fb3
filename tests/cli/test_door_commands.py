"""A door's verbs as its owner uses them: run and stopped, recorded, simulated."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from limen.images import encode_jpeg

data = pytest.importorskip("skimage.data", reason="scikit-image carries a picture of a person")


def limen(
    *arguments: object, typed: str = "", gallery: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    if gallery is not None:
        environment["LIMEN_GALLERY"] = str(gallery)
    return subprocess.run(
        [sys.executable, "-m", "limen.cli.main", *map(str, arguments)],
        input=typed,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one enrolled person stands before the door, with their gallery."""
    folder = tmp_path_factory.mktemp("visits")
    person = data.astronaut()[:320, 60:400]
    rng = np.random.default_rng(1)
    shots = []
    for number in range(8):
        noisy = np.clip(person * (0.9 + 0.03 * number) + rng.normal(0, 2, person.shape), 0, 255)
        path = folder / f"{number}.jpg"
        path.write_bytes(encode_jpeg(noisy.astype(np.uint8)))
        shots.append(path)
    gallery = folder / "gallery.db"
    done = limen("enrol", "eileen", *shots[:3], gallery=gallery)
    assert done.returncode == 0, done.stderr
    done = limen("calibrate", "--max-fmr", "1e-2", gallery=gallery)
    assert done.returncode == 0, done.stderr
    return folder


def test_session_is_recorded_and_simulated_and_compared(visits: Path, tmp_path: Path) -> None:
    session, gallery = tmp_path / "session", visits / "gallery.db"
    recorded = limen("record", "--source", visits, "--out", session, "--json")
    assert json.loads(recorded.stdout)["frames"] == 8
    (tmp_path / "door.toml").write_text(f'gallery = "{gallery}"\nmin_face_px = 40\n')
    simulate = ("simulate", "--log", session, "--config", tmp_path / "door.toml")
    done = limen(*simulate, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["opened"] == 1
    expected = tmp_path / "expected.json"
    expected.write_text(done.stdout)
    assert limen(*simulate, "--expect", expected).returncode == 0
    higher = limen(*simulate, "--threshold", 1.0, "--expect", expected)
    assert higher.returncode == 1
    assert "- " in higher.stderr


def test_log_of_a_run_is_simulated(visits: Path, tmp_path: Path) -> None:
    (tmp_path / "door.toml").write_text(
        f'gallery = "{visits / "gallery.db"}"\nmin_face_px = 40\nevents = "log/events.jsonl"\n'
    )
    options = ("--decisions", "--scores", "--subjects")
    ran = limen("run", "--config", tmp_path / "door.toml", "--source", visits, *options)
    assert ran.returncode == 0, ran.stderr
    assert '"event":"opened"' in ran.stdout
    kept = (tmp_path / "log" / "events.jsonl").read_text()
    assert [_timeless(line) for line in kept.splitlines()] == [
        _timeless(line) for line in ran.stdout.splitlines()
    ]
    done = limen("simulate", "--log", tmp_path / "log", "--json")
    assert json.loads(done.stdout)["opened"] == 1
    assert json.loads(done.stdout)["happened"][0]["subject_id"] == "eileen"
    nothing = limen("simulate", "--log", tmp_path / "none")
    assert nothing.returncode == 2
    assert "check the path" in nothing.stderr


def _timeless(line: str) -> dict[str, object]:
    return {key: value for key, value in json.loads(line).items() if key != "at"}


def test_running_door_reloads_on_sighup_and_stops_within_two_seconds_of_sigterm(
    visits: Path, tmp_path: Path
) -> None:
    """A camera that is not there: the door starts, waits for it, and obeys signals meanwhile."""
    if Path("/dev/video63").exists():
        pytest.skip("this machine has a camera 63")
    config = tmp_path / "door.toml"
    config.write_text(f'gallery = "{visits / "gallery.db"}"\nsource = "camera:63"\n')
    with subprocess.Popen(
        [sys.executable, "-m", "limen.cli.main", "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as door:
        assert door.stdout is not None
        assert door.stderr is not None
        try:
            events = [json.loads(door.stdout.readline())["event"] for _ in range(2)]
            assert events == ["started", "camera"]
            config.write_text(config.read_text() + "votes = 4\n")
            door.send_signal(signal.SIGHUP)
            assert json.loads(door.stdout.readline())["event"] == "reloaded"
            asked_s = time.monotonic()
            door.send_signal(signal.SIGTERM)
            stopped = json.loads(door.stdout.readline())
            assert time.monotonic() - asked_s < 2.0
            _, log = door.communicate(timeout=20)
        finally:
            door.kill()
    assert door.returncode == 0
    assert (stopped["event"], stopped["reason"]) == ("stopped", "stop asked for")
    assert "plug it in" in log
    assert "the door is locked" in log


def test_real_lock_without_liveness_is_refused(visits: Path, tmp_path: Path) -> None:
    config = tmp_path / "door.toml"
    config.write_text(f'gallery = "{visits / "gallery.db"}"\n[lock]\nkind = "gpio"\npin = 17\n')
    done = limen("run", "--config", config, "--source", visits)
    assert done.returncode == 2
    assert "photograph" in done.stderr
    assert "accept_no_liveness" in done.stderr


def test_real_lock_starts_only_with_an_owner_and_its_chip(visits: Path, tmp_path: Path) -> None:
    pytest.importorskip("gpiozero")
    gallery, config = tmp_path / "gallery.db", tmp_path / "door.toml"
    for suffix in ("", ".key"):
        shutil.copy(visits / f"gallery.db{suffix}", f"{gallery}{suffix}")
    lock = '[lock]\nkind = "gpio"\npin = 17\naccept_no_liveness = true\n'
    config.write_text(f'gallery = "{gallery}"\n{lock}')
    done = limen("run", "--config", config, "--source", visits)
    assert done.returncode == 2
    assert "run 'limen owner set' first" in done.stderr
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("four words of one's own\n")
    made = limen("owner", "set", "--gallery", gallery, "--passphrase-file", passphrase)
    assert made.returncode == 0
    if Path("/dev/gpiochip0").exists():
        pytest.skip("this machine has pins")
    done = limen("run", "--config", config, "--source", visits)
    assert done.returncode == 2
    assert "limen: " in done.stderr.splitlines()[-1]
    assert "owner" not in done.stderr
    assert "opened" not in done.stdout
