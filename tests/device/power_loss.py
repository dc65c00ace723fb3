"""A disk that loses power: an apsw VFS that records what SQLite writes and when it synchronises.

From the record any moment can be played back as a disk might show it after the power was cut
there: what was synchronised is there; of what was written after a file's last synchronisation,
every sector of 512 bytes is there or not, as chance has it, and the length of the file likewise; a
deleted file may be back unless its folder was synchronised.
The shared-memory index (`-shm`) is never on the disk after a restart.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512
VFS_NAME = "limen-recorder"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the record. kind: write, truncate, sync, delete, or said.

    offset: for a truncation the length, for a deletion whether its folder was synchronised.
    """

    kind: str
    file: str
    offset: int = 0
    content: bytes = b""


@dataclass
class Record:
    """Everything that was done to the files of one folder, in order. fail_at: refuse that write."""

    steps: list[Step] = field(default_factory=list)
    fail: Callable[[Step], None] | None = None

    def add(self, step: Step) -> None:
        if self.fail is not None:
            self.fail(step)
        self.steps.append(step)

    def say(self, what: str) -> None:
        """Note that something was acknowledged."""
        self.steps.append(Step("said", what))


class _RecordingFile(apsw.VFSFile):
    def __init__(self, record: Record, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._record, self._name = record, Path(path).name if path else ""

    def xWrite(self, content: bytes, offset: int) -> None:
        if self._name:
            self._record.add(Step("write", self._name, offset, bytes(content)))
        super().xWrite(content, offset)

    def xTruncate(self, size: int) -> None:
        if self._name:
            self._record.add(Step("truncate", self._name, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        if self._name:
            self._record.add(Step("sync", self._name))


class RecordingVFS(apsw.VFS):
    """Does what the system's VFS does, and keeps the record."""

    def __init__(self, record: Record) -> None:
        self._record = record
        super().__init__(VFS_NAME, "", exclude={"xCurrentTime"})

    def xOpen(self, name: Any, flags: list[int]) -> _RecordingFile:
        return _RecordingFile(self._record, name, flags)

    def xDelete(self, name: str, sync_folder: bool) -> None:
        super().xDelete(name, sync_folder)
        self._record.add(Step("delete", Path(name).name, offset=int(sync_folder)))


class _Cursor:
    """What the gallery uses of a sqlite3.Cursor."""

    def __init__(self, cursor: Any, connection: apsw.Connection) -> None:
        self._cursor = cursor
        self.lastrowid = connection.last_insert_rowid()
        self.rowcount = connection.changes()

    def fetchone(self) -> Any:
        return self._cursor.fetchone()

    def fetchall(self) -> Any:
        return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)


def _code(error: apsw.Error) -> int:
    """SQLite's result code; an error that a test raised inside the VFS carries none."""
    asked_for = {apsw.FullError: 13, apsw.ReadOnlyError: 8, apsw.IOError: 10}
    return int(getattr(error, "extendedresult", asked_for.get(type(error), 1)))


class Connection:
    """What the gallery uses of a sqlite3.Connection, on apsw's SQLite and its VFS."""

    def __init__(self, path: str) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        self._connection = apsw.Connection(path, flags=flags, vfs=VFS_NAME)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> _Cursor:
        try:
            return _Cursor(self._connection.execute(sql, tuple(parameters)), self._connection)
        except apsw.Error as error:
            raised = sqlite3.OperationalError(str(error))
            raised.sqlite_errorcode = _code(error)
            raise raised from error

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            self.execute(sql, row)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def backup(self, target: sqlite3.Connection) -> None:
        raise NotImplementedError("backups are killed, not cut: see test_gallery_killed.py")

    def close(self) -> None:
        try:
            self._connection.close()
        except apsw.Error as error:
            raise sqlite3.OperationalError(str(error)) from error


def after_power_loss(steps: Sequence[Step], folder: Path, rng: random.Random) -> None:
    """Write to `folder` what the disk might hold when the power goes after `steps`."""
    last_sync = {step.file: number for number, step in enumerate(steps) if step.kind == "sync"}
    files: dict[str, bytearray] = {}
    for number, step in enumerate(steps):
        durable = number <= last_sync.get(step.file, -1)
        if step.kind == "write":
            content = files.setdefault(step.file, bytearray())
            _write(content, step, None if durable else rng)
        elif step.kind == "truncate" and (durable or rng.random() < 0.5):
            content = files.setdefault(step.file, bytearray())
            del content[step.offset :]
            content.extend(bytes(step.offset - len(content)))
        elif step.kind == "delete" and (step.offset or rng.random() < 0.5):
            files.pop(step.file, None)
    for name, content in files.items():
        if not name.endswith("-shm"):
            (folder / name).write_bytes(content)


def _write(content: bytearray, step: Step, rng: random.Random | None) -> None:
    """Write a step, whole; or, with `rng`, whole, not at all, or torn between its sectors."""
    fate = "whole" if rng is None else rng.choice(["whole", "lost", "torn"])
    if fate == "lost":
        return
    start, end = step.offset, step.offset + len(step.content)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        if fate == "whole" or (rng is not None and rng.random() < 0.5):
            if len(content) < stop:
                content.extend(bytes(stop - len(content)))
            content[start:stop] = step.content[start - step.offset : stop - step.offset]
        start = stop
