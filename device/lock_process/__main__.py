"""Run the lock process: `python -m limen.device.lock_process --socket PATH SETTINGS`.

SETTINGS is the line of `LockSettings.to_json`. With `--fd N`, the connection that was inherited is
served, and its end is the process's end.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from limen.device.lock_process.keeper import LockKeeper
from limen.device.lock_process.pins import LockPins
from limen.device.lock_process.server import LockServer, listen
from limen.device.lock_process.settings import LockSettings
from limen.device.lock_process.wire import Report
from limen.device.notify import ServiceManager
from limen.errors import LimenError


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM, or until the inherited connection ends; 2 where it could not be."""
    parser = argparse.ArgumentParser(prog="limen-lock", description="Owns the lock's pin.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", type=Path, help="listen here")
    where.add_argument("--fd", type=int, help="serve this inherited connection")
    parser.add_argument("settings", help="one JSON object")
    told = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s limen-lock: %(message)s")
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    # A terminal's Ctrl-C reaches the whole group: the recogniser decides, and its end is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN if told.fd is not None else stop)
    connection = socket.socket(fileno=told.fd) if told.fd is not None else None
    try:
        settings = LockSettings.from_json(told.settings)
        with contextlib.ExitStack() as stack:
            pins = stack.enter_context(LockPins(settings))
            listener = stack.enter_context(listen(told.socket)) if told.socket else None
            LockServer(
                LockKeeper(settings),
                pins,
                connection=connection,
                listener=listener,
                manager=ServiceManager() if listener else None,
            ).run(lambda: stopped)
    except LimenError as error:
        if connection is not None:
            report = Report(None, str(error), locked=True, door_open=None, tampered=False)
            with contextlib.suppress(OSError):
                connection.send(report.pack())
        else:
            sys.stderr.write(f"limen-lock: {error}\n")
        return 2
    finally:
        if told.socket and stopped:
            with contextlib.suppress(OSError):
                os.unlink(told.socket)
    return 0


if __name__ == "__main__":
    sys.exit(main())
