"""The recogniser's end of the lock: what it asks for, another process does."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from limen.device.lock import LockNotice, checked_pulse_s
from limen.device.lock_process.settings import LockSettings
from limen.device.lock_process.wire import MAX_BYTES, Report, Request, WireError
from limen.errors import LockError

START_S = 20.0
ANSWER_S = 0.5
MODULE = "limen.device.lock_process"
_GONE = (
    "the lock process is gone: its pin falls back to the level of the wiring; see its log, and "
    "start the door again"
)


class ProcessLock:
    """A lock in a process of its own, over a connection that both sides notice the end of.

    `beat` is called by the loop that works, never by a thread of its own: a loop that hangs must
    miss its heartbeats. Not safe to share between threads.
    """

    def __init__(
        self,
        connection: socket.socket,
        process: subprocess.Popen[bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        connection.setblocking(False)
        self._connection: socket.socket | None = connection
        self._process = process
        self._clock = clock
        self._number = 0
        self._notices: list[LockNotice] = []
        self._last = Report(None, "", locked=True, door_open=None, tampered=False)

    @classmethod
    def start(cls, settings: LockSettings, command: Sequence[str] | None = None) -> Self:
        """Start a lock process of our own. It ends with us. LockError where it cannot drive pins.

        command: what to run in place of Python and the module, with the same arguments after it.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                process = subprocess.Popen(
                    [
                        *(command or (sys.executable, "-m", MODULE)),
                        "--fd",
                        str(theirs.fileno()),
                        settings.to_json(),
                    ],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise LockError(f"the lock process cannot be started ({error.strerror})") from error
        lock = cls(ours, process)
        try:
            refusal = lock._wait(None, START_S).refusal
            if refusal:
                raise LockError(refusal)
        except BaseException:
            lock.close()
            raise
        return lock

    @classmethod
    def connect(cls, path: Path) -> Self:
        """Connect to a lock process that listens on `path`. LockError where none does."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(os.fspath(path))
        except OSError as error:
            connection.close()
            raise LockError(
                f"{path}: no lock process answers ({error.strerror}): "
                "'systemctl status limen-lock', and check lock.socket"
            ) from error
        lock = cls(connection)
        try:
            lock._request("status")
        except BaseException:
            lock.close()
            raise
        return lock

    @property
    def is_locked(self) -> bool:
        """Whether the door is held, by the lock process's last word."""
        if self._connection is not None:
            self._drain()
        return self._last.locked

    @property
    def process_id(self) -> int | None:
        """The lock process's, where it is our own."""
        return self._process.pid if self._process else None

    def state(self) -> Report:
        """Ask how the lock and its door are."""
        return self._request("status")

    def open_for(self, seconds: float) -> None:
        refusal = self._request("open", checked_pulse_s(seconds)).refusal
        if refusal:
            raise LockError(f"the lock refuses to open: {refusal}")

    def open_by_hand(self, seconds: float) -> None:
        """Let go of the door for a person, whether or not a recogniser drives the lock.

        The pulse ends by itself. LockError where it is refused.
        """
        refusal = self._request("hand", checked_pulse_s(seconds)).refusal
        if refusal:
            raise LockError(f"the lock refuses to open: {refusal}")

    def lock(self) -> None:
        self._request("lock")

    def beat(self) -> None:
        self._send("beat")
        self._drain()

    def take_notices(self) -> list[LockNotice]:
        if self._connection is not None:
            self._drain()
        notices, self._notices = self._notices, []
        return notices

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close()  # noticed at once: the lock process locks
        if self._process is not None:
            try:
                self._process.wait(timeout=2.0)
            except subprocess.TimeoutExpired:  # the kernel takes the pin from it
                self._process.kill()
                self._process.wait()

    def _request(self, kind: str, pulse_s: float = 0.0) -> Report:
        number = self._send(kind, pulse_s)
        return self._wait(number, ANSWER_S)

    def _send(self, kind: str, pulse_s: float = 0.0) -> int:
        if self._connection is None:
            raise LockError("the lock is closed: open it again")
        self._number += 1
        request = Request(kind, self._number, self._clock(), pulse_s)
        try:
            self._connection.send(request.pack())
        except BlockingIOError as error:
            raise LockError("the lock process does not read: it hangs; see its log") from error
        except OSError as error:
            raise LockError(_GONE) from error
        return self._number

    def _wait(self, number: int | None, timeout_s: float) -> Report:
        """The answer to request `number`; with None, the first report."""
        end_s = time.monotonic() + timeout_s
        while True:
            left_s = end_s - time.monotonic()
            if left_s <= 0 or self._connection is None:
                raise LockError(f"the lock process gave no answer in {timeout_s:g} s; see its log")
            select.select([self._connection], [], [], left_s)
            report = self._receive()
            if report is not None and (number is None or report.answers == number):
                return report

    def _drain(self) -> None:
        while (report := self._receive()) is not None:
            if report.answers is not None and report.refusal:
                raise LockError(f"the lock refuses: {report.refusal}")

    def _receive(self) -> Report | None:
        if self._connection is None:
            return None
        try:
            packet = self._connection.recv(MAX_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise LockError(_GONE) from error
        if not packet:
            raise LockError(_GONE)
        try:
            report = Report.unpack(packet)
        except WireError as error:
            raise LockError(f"the lock process speaks another language: {error}") from error
        self._last = report
        self._notices = [*self._notices, *report.notices][-64:]
        return report

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(LockError):
            self.close()
