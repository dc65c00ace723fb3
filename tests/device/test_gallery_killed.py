"""A process killed at a random moment of its work on a gallery loses nothing it acknowledged."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gallery_workload as workload
import numpy as np
import pytest

from limen.device.gallery import Gallery

LONGEST_S = 0.25
# LIMEN_KILLS=2000 kills longer than CI has time for.
KILLS = int(os.environ.get("LIMEN_KILLS", "500"))


@dataclass
class Told:
    """What the killed processes said, all together."""

    living: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    begun: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    backups: list[str] = field(default_factory=list)
    migrations: list[str] = field(default_factory=list)

    def hear(self, lines: list[str]) -> None:
        for line in lines:
            stage, what, argument = line.split(" ")
            counts = self.begun if stage == "begin" else self.done
            counts[what] = counts.get(what, 0) + 1
            if what == "migrate" and stage == "begin":
                self.migrations.append(argument)
            if what == "backup" and stage == "done":
                self.backups.append(argument)
            if what in ("enrol", "remove"):
                if stage == "begin":
                    self.living.discard(argument)
                    self.unsure.add(argument)
                else:
                    self.unsure.discard(argument)
                    if what == "enrol":
                        self.living.add(argument)


def killed_after(folder: Path, seed: int, delay_s: float) -> list[str]:
    """The lines that a process wrote before it was killed, `delay_s` after it had started."""
    with subprocess.Popen(
        [sys.executable, workload.__file__, str(folder), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split("\n")
        assert process.wait() == -signal.SIGKILL  # killed, not ended by an error of its own
    return [line for line in lines[:-1] if line]  # what follows the last line break was cut


def check_files(folder: Path, told: Told) -> None:
    with Gallery.open(folder / "gallery.db", model_id=workload.MODEL_ID, create=True) as gallery:
        gallery.check()
        found = {record.subject_id: record.references for record in gallery.subjects()}
        assert told.living <= set(found)
        assert set(found) <= told.living | told.unsure
        assert set(found.values()) <= {2}  # all of an enrolment, or nothing
        references = gallery.references()
        for number, name in enumerate(references.subject_ids):
            np.testing.assert_array_equal(
                references.embeddings[references.subject == number], workload.references(name)
            )
    told.living, told.unsure = set(found), set()
    for name in told.migrations:
        with Gallery.open(folder / name) as old:
            old.check()
            assert [r.subject_id for r in old.subjects()] == list(workload.OLD_SUBJECTS)
            point = old.operating_point()
            assert point is not None
            assert point.threshold == 0.6
            assert not old.calibration_is_stale()


def check_backups(folder: Path, told: Told) -> None:
    """Every acknowledged backup, and every other that has its name, opens with the key of its day."""
    there = sorted(path.name for path in folder.glob("backup-*.db"))
    assert set(told.backups) <= set(there)
    for name in there:
        with Gallery.open(folder / name) as backup:
            backup.check()


def rounds(count: int) -> Iterator[tuple[int, float]]:
    rng = random.Random(2)
    for seed in range(count):
        yield seed, rng.uniform(0, LONGEST_S)


def kill_often(folder: Path, kills: int) -> Told:
    told = Told()
    for seed, delay_s in rounds(kills):
        told.hear(killed_after(folder, seed, delay_s))
        check_files(folder, told)
        check_backups(folder, told)
        told.backups.clear()
        told.migrations.clear()
        for path in (*folder.glob("old-*"), *folder.glob("backup-*"), *folder.glob(".*")):
            shutil.rmtree(path) if path.is_dir() else os.unlink(path)
        if len(told.living) > 200:  # a gallery that grows for ever makes the rounds slow
            with Gallery.open(folder / "gallery.db") as gallery:
                for name in sorted(told.living)[:150]:
                    gallery.remove(name)
                    told.living.discard(name)
    return told


def test_killed_at_random_moments_a_gallery_loses_nothing(tmp_path: Path) -> None:
    told = kill_often(tmp_path, 25)
    assert told.done.get("enrol", 0) > 25
    assert told.done.get("remove", 0) > 5


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_five_hundred_times_a_gallery_loses_nothing(tmp_path: Path) -> None:
    told = kill_often(tmp_path, KILLS)
    print(f"begun {told.begun}, acknowledged {told.done}")
    for what in ("enrol", "remove", "backup", "migrate", "rekey"):
        # How many there are depends on the machine's load.
        assert told.done[what] >= min(10, KILLS // 50)
        assert told.begun[what] > told.done[what]  # some were cut in the middle
