"""A process at work on a gallery, to be killed: it says what it begins and what was acknowledged.

    python gallery_workload.py FOLDER SEED

Works in FOLDER/gallery.db until it is killed, and writes a line `begin WHAT` before each change and
`done WHAT` after it. WHAT: `enrol NAME`, `remove NAME`, `backup FILE`, `migrate FILE`, `rekey -`.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from limen.calibration.operating_point import OperatingPoint
from limen.device.fakes import fake_operating_point
from limen.device.gallery import Gallery
from limen.device.gallery.schema import APPLICATION_ID, VERSION_1

MODEL_ID = "m" * 32
AT = "2026-11-01T12:00:00+00:00"
OLD_SUBJECTS = ("ann", "bob", "zoe")


def references(name: str, rows: int = 2) -> np.ndarray:
    """Two rows that are the name's own."""
    values = np.random.default_rng(list(name.encode())).normal(size=(rows, 16))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def write_old_gallery(path: Path, point: OperatingPoint | None = None) -> None:
    """A gallery as version 1 wrote it, names and templates in the clear."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN")
    for statement in VERSION_1.split(";"):
        connection.execute(statement)
    connection.execute("INSERT INTO door VALUES (1, ?, 7, 3, NULL)", (MODEL_ID,))
    for name in OLD_SUBJECTS:
        number = connection.execute(
            "INSERT INTO subject (subject_id, enrolled_at) VALUES (?, ?)", (name, AT)
        ).lastrowid
        for row in references(name):
            connection.execute(
                "INSERT INTO reference (subject, embedding, quality, enrolled_at)"
                " VALUES (?, ?, 0.5, ?)",
                (number, row.astype("<f4").tobytes(), AT),
            )
    kept = point or fake_operating_point(0.6, MODEL_ID)
    connection.execute(
        "INSERT INTO operating_point VALUES (1, ?, 3, ?)", (MODEL_ID, kept.model_dump_json())
    )
    connection.execute("UPDATE door SET operating_point = 1")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.execute("COMMIT")
    connection.close()


def work(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    count = 0

    @contextlib.contextmanager
    def told(what: str, argument: str) -> Iterator[None]:
        nonlocal count
        count += 1
        print(f"begin {what} {argument}", flush=True)
        yield
        print(f"done {what} {argument}", flush=True)

    with Gallery.open(folder / "gallery.db", model_id=MODEL_ID, create=True) as gallery:
        mine = [record.subject_id for record in gallery.subjects()]
        while True:
            kind = rng.choices(["enrol", "remove", "backup", "migrate", "rekey"], [10, 5, 2, 2, 1])[
                0
            ]
            if kind == "enrol" or not mine:
                name = f"{seed}-{count}"
                with told("enrol", name):
                    gallery.enrol(name, references(name), [0.5, 0.5], AT)
                mine.append(name)
            elif kind == "remove":
                name = mine.pop(rng.randrange(len(mine)))
                with told("remove", name):
                    gallery.remove(name)
            elif kind == "backup":
                target = folder / f"backup-{seed}-{count}.db"
                shutil.copy2(folder / "gallery.db.key", folder / f"{target.name}.key")
                with told("backup", target.name):
                    gallery.back_up(target)
            elif kind == "migrate":
                old = folder / f"old-{seed}-{count}.db"
                write_old_gallery(old)
                with told("migrate", old.name):
                    Gallery.open(old).close()
            else:
                with told("rekey", "-"):
                    gallery.rekey()


if __name__ == "__main__":
    print("ready", flush=True)
    work(Path(sys.argv[1]), int(sys.argv[2]))
