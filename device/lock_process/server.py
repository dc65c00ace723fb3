"""The lock process's loop: sockets and pins in, the keeper's word out."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from limen.device.lock import LockNotice, NoticeKind
from limen.device.lock_process.keeper import Inputs, LockKeeper
from limen.device.lock_process.wire import MAX_BYTES, Report, Request, WireError
from limen.device.notify import ServiceManager
from limen.errors import LockError

logger = logging.getLogger(__name__)

POLL_S = 0.02
MAX_CONNECTIONS = 8
# So many packets of one connection a turn: a flood delays nobody's pulse end.
PACKETS_A_TURN = 32
# What the next recogniser is told of, where it happened while there was none: the last so many.
ALARMS = frozenset({NoticeKind.FORCED, NoticeKind.HELD_OPEN, NoticeKind.TAMPER})
MAX_UNHEARD = 16


class Pins(Protocol):
    """The pins as the loop uses them."""

    def release(self, released: bool) -> None:
        """Let go of the door, or hold it. LockError where the pin does not obey."""
        ...

    def read(self) -> Inputs:
        """The switches."""
        ...


class LockServer:
    """Serves one recogniser at a time, and whoever asks for the state.

    The first connection that opens or beats is the recogniser until it leaves; anybody may open by
    hand whom the socket's permissions let connect. connection: an
    inherited one, with whose end `run` ends; listener: where others connect.
    """

    def __init__(
        self,
        keeper: LockKeeper,
        pins: Pins,
        *,
        connection: socket.socket | None = None,
        listener: socket.socket | None = None,
        clock: Callable[[], float] = time.monotonic,
        manager: ServiceManager | None = None,
    ) -> None:
        self._keeper = keeper
        self._pins = pins
        self._listener = listener
        self._clock = clock
        self._manager = manager or ServiceManager({})
        self._connections: list[socket.socket] = []
        self._controller: socket.socket | None = None
        self._numbers: dict[socket.socket, int] = {}
        self._driven = False
        self._unheard: deque[LockNotice] = deque(maxlen=MAX_UNHEARD)
        self._only = connection
        if connection is not None:
            self._take(connection)

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Serve until `stop()` or the inherited connection ends. The door is locked then."""
        try:
            self._follow()
            if self._only is not None:
                self._send(self._only, self._report(None))
            self._manager.ready("locked")
            while not stop():
                self._turn()
                if self._only is not None and self._only not in self._connections:
                    break
        finally:
            self._manager.stopping()
            self._keeper.lock(self._clock(), "lock process stops")
            try:
                self._pins.release(False)
            finally:
                for connection in list(self._connections):
                    connection.close()

    def _turn(self) -> None:
        watched = [*self._connections, *([self._listener] if self._listener else [])]
        wait_s = min(POLL_S, max(0.0, self._keeper.due_s() - self._clock()))
        ready, _, _ = select.select(watched, [], [], wait_s)
        for each in ready:
            if each is self._listener:
                self._accept()
            else:
                self._hear(each)
        now_s = self._clock()
        self._keeper.sense(now_s, self._pins.read())
        self._keeper.tick(now_s)
        self._follow()
        self._manager.alive(now_s)

    def _follow(self) -> None:
        """Bring the pin to where the keeper wants it, then tell the recogniser."""
        if self._keeper.released != self._driven:
            self._driven = self._keeper.released
            self._pins.release(self._driven)
        notices = self._keeper.take_notices()
        for notice in notices:
            logger.info("%s %s", notice.kind.value, notice.reason)
        if self._controller is None:
            self._unheard.extend(notice for notice in notices if notice.kind in ALARMS)
            return
        notices = [*self._unheard, *notices]
        self._unheard.clear()
        if notices:
            self._send(self._controller, self._report(None, notices=tuple(notices)))

    def _hear(self, connection: socket.socket) -> None:
        for _ in range(PACKETS_A_TURN):
            try:
                packet = connection.recv(MAX_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._leave(connection)
                return
            try:
                request = Request.unpack(packet)
                if request.number <= self._numbers[connection]:
                    raise WireError("a number that was used")
            except WireError as error:
                logger.warning("a connection was closed: %s", error)
                self._leave(connection)
                return
            self._numbers[connection] = request.number
            self._obey(connection, request)

    def _obey(self, connection: socket.socket, request: Request) -> None:
        now_s = self._clock()
        refusal = ""
        if request.kind not in ("status", "hand"):
            if self._controller is None:
                self._controller = connection
            if connection is not self._controller:
                refusal = "another recogniser drives this lock: stop it first"
        if not refusal:
            if request.kind == "open":
                refusal = self._keeper.ask(now_s, request.pulse_s, request.sent_at_s)
            elif request.kind == "hand":
                refusal = self._keeper.open_by_hand(now_s, request.pulse_s, request.sent_at_s)
            elif request.kind == "beat":
                self._keeper.beat(now_s, request.sent_at_s)
            elif request.kind == "lock":
                self._keeper.lock(now_s, "recogniser")
        if request.kind != "beat" or refusal:
            self._follow()  # the pin first: an answer tells what is, not what will be
            self._send(connection, self._report(request.number, refusal))

    def _accept(self) -> None:
        if self._listener is None:
            return
        with contextlib.suppress(OSError):  # it left before it was let in
            connection, _ = self._listener.accept()
            if len(self._connections) >= MAX_CONNECTIONS:
                connection.close()
            else:
                self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connections.append(connection)
        self._numbers[connection] = -1

    def _leave(self, connection: socket.socket) -> None:
        if connection is self._controller:
            self._controller = None
            self._keeper.controller_left(self._clock())
            self._follow()
        self._connections.remove(connection)
        del self._numbers[connection]
        connection.close()

    def _report(
        self, answers: int | None, refusal: str = "", notices: tuple[LockNotice, ...] = ()
    ) -> Report:
        return Report(
            answers,
            refusal,
            locked=not self._keeper.released,
            door_open=self._keeper.door_open,
            tampered=self._keeper.tampered,
            notices=notices,
        )

    def _send(self, connection: socket.socket, report: Report) -> None:
        # Who does not read misses reports; the lock waits for nobody.
        with contextlib.suppress(OSError):
            connection.send(report.pack())


def listen(path: Path, mode: int = 0o660) -> socket.socket:
    """Listen on a socket in the file system. LockError where another lock process does."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
                if other.connect_ex(str(path)) == 0:
                    raise LockError(f"{path}: another lock process listens here: stop it first")
            path.unlink()  # left behind by one that was killed
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(MAX_CONNECTIONS)
        listener.setblocking(False)
    except LockError:
        listener.close()
        raise
    except OSError as error:
        listener.close()
        raise LockError(
            f"{path}: cannot listen here ({error.strerror}): check the folder and its owner"
        ) from error
    return listener
