"""Bad days of a running door, as processes: each is told of, leaves the door locked, and passes.

Cameras that fail are in test_rtsp.py, and with fakes in tests/device/test_cameras.py; here are the
disk, the gallery, the bundle, the clock and the pin.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limen.device.lock_process.settings import LockSettings

ROOT = Path(__file__).resolve().parents[1]
WITNESS = ROOT / "device" / "lock_process" / "witness.py"
PULSE_S = 8.0


class Door:
    """`limen run` in a process of its own, and what it tells."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "limen.cli.main", "run", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events: list[dict[str, Any]] = []

    def wait_for(self, kind: str) -> dict[str, Any]:
        """Read on to an event of this kind. AssertionError, with the log, where the door ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == kind:
                return self.events[-1]
        assert self.process.stderr is not None
        raise AssertionError(f"no '{kind}': {self.events}, {self.process.stderr.read()}")

    def rest(self) -> str:
        """Read the events to the end; the log."""
        said, log = self.process.communicate(timeout=60)
        self.events += [json.loads(line) for line in said.splitlines()]
        return log

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        log = self.rest()
        assert self.process.returncode == 0, log
        return log

    def kinds(self) -> list[str]:
        return [event["event"] for event in self.events]


@contextlib.contextmanager
def door(*arguments: object) -> Iterator[Door]:
    running = Door(*arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


@pytest.fixture(scope="module")
def enrolled(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the owned gallery of one member, calibrated, and a long visit of theirs."""
    folder = tmp_path_factory.mktemp("enrolled")
    gallery = ("--gallery", folder / "gallery.db")
    shots = [people / f"person-{number}.jpg" for number in range(3)]
    for arguments in (("enrol", "ann", *shots), ("calibrate", "--max-fmr", "1e-2")):
        done = subprocess.run(
            [sys.executable, "-m", "limen.cli.main", *map(str, (*arguments, *gallery))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    passphrase = folder / "passphrase"
    passphrase.write_text("four words of one's own\n")
    owner = ("owner", "set", "--passphrase-file", passphrase, *gallery)
    subprocess.run([sys.executable, "-m", "limen.cli.main", *map(str, owner)], check=True)
    visit = folder / "visit"
    visit.mkdir()
    for number in range(4000):  # more than a test waits for
        os.link(_copied(people / "person-3.jpg", folder), visit / f"{number:04}.jpg")
    return folder


def _copied(picture: Path, folder: Path) -> Path:
    copy = folder / picture.name
    if not copy.exists():
        shutil.copy(picture, copy)
    return copy


@pytest.fixture
def pin(tmp_path: Path) -> Iterator[Path]:
    """A lock service on mock pins; the log of its relay's pin. Its socket lies beside."""
    pytest.importorskip("gpiozero")
    log, path = tmp_path / "pin.log", tmp_path / "lock.sock"
    settings = LockSettings(pin=17, max_pulse_s=PULSE_S)
    with subprocess.Popen(
        [sys.executable, WITNESS, log, "--socket", path, settings.to_json()]
    ) as service:
        end_s = time.monotonic() + 30
        while not path.exists() and time.monotonic() < end_s:
            time.sleep(0.02)
        try:
            yield log
        finally:
            service.terminate()


def level(log: Path) -> str:
    return log.read_text().splitlines()[-1].split()[1]


def wait_for_level(log: Path, wanted: str, within_s: float) -> None:
    end_s = time.monotonic() + within_s
    while level(log) != wanted:
        assert time.monotonic() < end_s, log.read_text()
        time.sleep(0.01)


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_signal_in_the_middle_of_a_pulse_locks_within_a_second(
    ending: str, enrolled: Path, pin: Path, tmp_path: Path
) -> None:
    config = tmp_path / "door.toml"
    config.write_text(
        f'gallery = "{enrolled / "gallery.db"}"\nunlock_for_s = {PULSE_S}\nmin_face_px = 40\n'
        f'[lock]\nkind = "gpio"\nsocket = "{pin.with_name("lock.sock")}"\n'
        "accept_no_liveness = true\n"
    )
    with door("--config", config, "--source", enrolled / "visit") as running:
        running.wait_for("opened")
        assert level(pin) == "True"
        running.process.send_signal(getattr(signal, ending))
        wait_for_level(pin, "False", 1.0)
        log = running.rest()
    assert "True" not in pin.read_text().split("True", 1)[1]  # it opened once
    if ending == "SIGTERM":
        assert running.process.returncode == 0, log
        assert running.kinds()[-2:] == ["locked", "stopped"]
    # The service is ready for the next recogniser, which the service manager starts.
    with door("--config", config, "--source", enrolled / "visit") as again:
        again.wait_for("opened")
        again.stop()
    wait_for_level(pin, "False", 1.0)


def test_gallery_that_another_process_holds_is_told_of_and_opens_afterwards(
    enrolled: Path, tmp_path: Path
) -> None:
    gallery = _gallery_copy(enrolled, tmp_path)
    holder = sqlite3.connect(gallery, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    arguments = ("--gallery", gallery, "--source", enrolled / "visit", "--min-face-px", 40)
    with door(*arguments) as running:
        log = running.rest()
    assert running.process.returncode == 2
    assert "is in use by another process" in log
    assert "opened" not in running.kinds()
    holder.execute("ROLLBACK")
    holder.close()
    with door(*arguments) as running:
        running.wait_for("opened")
        running.stop()


@pytest.mark.parametrize("audit", [True, False])
def test_gallery_that_another_process_writes_to_lets_members_in_unless_it_must_keep_records(
    audit: bool, enrolled: Path, tmp_path: Path
) -> None:
    gallery = _gallery_copy(enrolled, tmp_path)
    config = tmp_path / "door.toml"
    config.write_text(f'gallery = "{gallery}"\nmin_face_px = 40\naudit = {str(audit).lower()}\n')
    arguments = ("--config", config, "--source", enrolled / "visit")
    writer = sqlite3.connect(gallery, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")  # an enrolment that takes longer than the door's patience
    with door(*arguments) as running:
        if audit:
            log = running.rest()
            assert running.process.returncode == 2
            assert "is in use by another process" in log
        else:
            running.wait_for("opened")
            running.stop()
    writer.execute("ROLLBACK")
    writer.close()
    with door(*arguments) as running:
        running.wait_for("opened")
        running.stop()


def _gallery_copy(enrolled: Path, folder: Path) -> Path:
    for file in enrolled.glob("gallery.db*"):
        shutil.copy2(file, folder / file.name)
    return folder / "gallery.db"


def test_bundle_that_is_replaced_while_running_counts_from_the_next_start(
    enrolled: Path, tmp_path: Path
) -> None:
    from importlib import resources

    bundle = tmp_path / "door.limen"
    bundle.write_bytes((resources.files("limen.models") / "default.limen").read_bytes())
    arguments = (
        *("--gallery", enrolled / "gallery.db", "--bundle", bundle),
        *("--source", enrolled / "visit", "--min-face-px", 40),
    )
    with door(*arguments) as running:
        running.wait_for("started")
        with bundle.open("r+b") as file:  # in place, the worst way: no rename, half of it
            file.seek(1000)
            file.write(bytes(5_000_000))
            file.truncate(6_000_000)
        running.wait_for("opened")
        running.stop()
    with door(*arguments) as running:
        log = running.rest()
    assert running.process.returncode == 2
    assert str(bundle) in log
    assert running.kinds() == []
    shutil.copy(str(resources.files("limen.models") / "default.limen"), bundle)
    with door(*arguments) as running:
        running.wait_for("opened")
        running.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def test_full_disk_loses_events_and_not_the_door(enrolled: Path, small_disk: Path) -> None:
    gallery = _gallery_copy(enrolled, small_disk)
    config = small_disk / "door.toml"
    events = small_disk / "events.jsonl"
    config.write_text(
        f'gallery = "{gallery}"\nevents = "{events}"\nmin_face_px = 40\naudit = false\n'
    )
    arguments = ("--config", config, "--source", enrolled / "visit", "--decisions")
    with door(*arguments) as running:
        running.wait_for("decision")
        filler = fill(small_disk)
        full = events.stat().st_size
        for _ in range(100):
            running.wait_for("decision")
        filler.unlink()
        end_s = time.monotonic() + 20
        while events.stat().st_size <= full and time.monotonic() < end_s:
            running.wait_for("decision")
        log = running.stop()
    assert "free some space; the door goes on" in log
    assert "opened" in running.kinds()
    assert "events were lost" in log
    assert all(json.loads(line)["event"] for line in events.read_text().splitlines())


def test_full_disk_keeps_a_door_locked_that_must_keep_records(
    enrolled: Path, small_disk: Path
) -> None:
    gallery = _gallery_copy(enrolled, small_disk)
    config = small_disk / "door.toml"
    config.write_text(f'gallery = "{gallery}"\naudit = true\nmin_face_px = 40\n')
    filler = fill(small_disk)
    arguments = ("--config", config, "--source", enrolled / "visit")
    with door(*arguments) as running:
        log = running.rest()
    assert running.process.returncode == 2
    assert "the disk is full: free some space" in log
    assert "opened" not in running.kinds()
    filler.unlink()
    with door(*arguments) as running:
        running.wait_for("opened")
        running.stop()
