"""The power is cut at a random moment: nothing acknowledged is lost, and the gallery opens."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import gallery_workload as workload
import numpy as np
import pytest
from power_loss import Connection, Record, RecordingVFS, Step, after_power_loss

from limen.device.gallery import Gallery, file
from limen.errors import GalleryError

REAL_OPEN = file.open_sqlite
MODEL_ID, AT = workload.MODEL_ID, workload.AT
# LIMEN_POWER_CUTS=5000 cuts longer than CI has time for.
CUTS = int(os.environ.get("LIMEN_POWER_CUTS", "500"))


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Iterator[Record]:
    """SQLite under the gallery runs on the recording VFS."""
    record = Record()
    vfs = RecordingVFS(record)
    monkeypatch.setattr(file, "open_sqlite", lambda path: Connection(str(path)))
    yield record
    vfs.unregister()


def enrol_and_remove(record: Record, path: Path, rounds: int) -> None:
    """A workload with acknowledgements in the record."""
    rng = random.Random(5)
    living: list[str] = []
    with Gallery.open(path, model_id=MODEL_ID, create=True) as gallery:
        record.say("opened -")
        for number in range(rounds):
            if living and rng.random() < 0.35:
                name = living.pop(rng.randrange(len(living)))
                record.say(f"begin {name}")
                gallery.remove(name)
                record.say(f"removed {name}")
            else:
                living.append(name := f"s{number}")
                record.say(f"begin {name}")
                gallery.enrol(name, workload.references(name, 5), [0.5] * 5, AT)
                record.say(f"enrolled {name}")


def promised(steps: list[Step]) -> tuple[set[str], set[str]]:
    """Who must be there after these steps, and who may be."""
    living: set[str] = set()
    unsure: set[str] = set()
    for step in steps:
        if step.kind == "said":
            what, name = step.file.split(" ")
            living.discard(name)
            unsure.discard(name)
            if what == "begin":
                unsure.add(name)
            elif what == "enrolled":
                living.add(name)
    return living, unsure


def cut(record: Record, folder: Path, key: bytes, moment: int, rng: random.Random) -> Path:
    """What is left on the disk in a folder of its own, the key beside it."""
    folder.mkdir()
    steps = record.steps[:moment]
    (folder / "gallery.db.key").write_bytes(key)
    (folder / "gallery.db.key").chmod(0o600)
    (folder / "gallery.db").touch()  # made and its folder synchronised before SQLite is called
    after_power_loss(steps, folder, rng)
    return folder / "gallery.db"


def test_power_cut_at_five_hundred_moments_loses_nothing(tmp_path: Path, record: Record) -> None:
    path = tmp_path / "gallery.db"
    enrol_and_remove(record, path, 40)
    _play_back(tmp_path, record, CUTS)


def _play_back(tmp_path: Path, record: Record, cuts: int) -> None:
    key = (tmp_path / "gallery.db.key").read_bytes()
    rng = random.Random(11)
    opened = next(n for n, step in enumerate(record.steps) if step.file == "opened -")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "open_sqlite", REAL_OPEN)
        for number in range(cuts):
            moment = rng.randrange(len(record.steps) + 1)
            path = cut(record, tmp_path / f"cut-{number}", key, moment, rng)
            living, unsure = promised(record.steps[:moment])
            # Before the first opening returned, nothing was promised but a gallery that can be made.
            create = moment <= opened
            with Gallery.open(path, model_id=MODEL_ID, create=create) as gallery:
                gallery.check()
                found = {record.subject_id: record.references for record in gallery.subjects()}
            assert living <= set(found) <= living | unsure, (number, moment)
            assert set(found.values()) <= {5}, (number, moment)


def test_power_cut_while_an_old_gallery_is_migrated_loses_nothing(
    tmp_path: Path, record: Record
) -> None:
    path = tmp_path / "gallery.db"
    workload.write_old_gallery(path)
    record.steps += [Step("write", "gallery.db", 0, path.read_bytes()), Step("sync", "gallery.db")]
    begin = len(record.steps)
    Gallery.open(path).close()
    key = (tmp_path / "gallery.db.key").read_bytes()
    rng = random.Random(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "open_sqlite", REAL_OPEN)
        for number in range(CUTS // 5):
            moment = rng.randrange(begin, len(record.steps) + 1)
            cut_path = cut(record, tmp_path / f"cut-{number}", key, moment, rng)
            with Gallery.open(cut_path) as gallery:
                gallery.check()
                references = gallery.references()
            assert references.subject_ids == workload.OLD_SUBJECTS
            np.testing.assert_array_equal(
                references.embeddings,
                np.concatenate([workload.references(name) for name in workload.OLD_SUBJECTS]),
            )


def test_the_simulation_finds_a_gallery_that_does_not_synchronise(
    tmp_path: Path, record: Record
) -> None:
    """The check can fail: with the synchronisations taken out of the record, it does."""
    enrol_and_remove(record, tmp_path / "gallery.db", 20)
    record.steps = [step for step in record.steps if step.kind != "sync"]
    with pytest.raises((AssertionError, GalleryError)):
        _play_back(tmp_path, record, 60)


@pytest.mark.parametrize("code", ["FullError", "ReadOnlyError", "IOError"])
def test_disk_that_refuses_a_write_loses_nothing(tmp_path: Path, record: Record, code: str) -> None:
    """Every write of an enrolment refused in turn: an error each time, and no loss."""
    path = tmp_path / "gallery.db"
    refusals: list[str] = []
    for write in range(12):
        record.fail = None
        with Gallery.open(path, model_id=MODEL_ID, create=True) as gallery:
            before = [r.subject_id for r in gallery.subjects()]
            left = write

            def refuse(step: Step) -> None:
                nonlocal left
                if step.kind == "write" and not step.file.endswith("-shm"):
                    left -= 1
                    if left < 0:
                        raise getattr(apsw, code)("as a test asked for")

            record.fail = refuse
            name = f"s{write}"
            try:
                gallery.enrol(name, workload.references(name, 5), [0.5] * 5, AT)
            except GalleryError as error:
                refusals.append(str(error))
                expected = before
            else:
                expected = sorted([*before, name])
            record.fail = None
            assert [r.subject_id for r in gallery.subjects()] == expected
        with Gallery.open(path) as gallery:
            gallery.check()
            assert [r.subject_id for r in gallery.subjects()] == expected
    assert len(refusals) >= 3
    assert all("disk" in refusal or "read-only" in refusal for refusal in refusals)
