"""Words to the service manager (sd_notify, systemd.exec(5)): ready, alive, stopping.

The protocol is one datagram, so it needs no package.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class ServiceManager:
    """Tells systemd, where it started this process; silent elsewhere.

    `NOTIFY_SOCKET` and `WATCHDOG_USEC` are read from `environment` once. A manager that does not
    listen is no reason to stop a door.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # '@' is systemd's way to write the abstract namespace's leading zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watchdog = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period_s = int(watchdog) / 1e6 if watchdog.isdigit() and ours else 0.0
        # Three beats a period, so that one may be late.
        self._every_s = period_s / 3 if period_s > 0 else None
        self._last_s: float | None = None

    @property
    def beat_every_s(self) -> float | None:
        """How often `alive` has to be called; None where nobody watches."""
        return self._every_s

    def ready(self, status: str = "") -> None:
        """The service has started, or finished a reload."""
        self._send(f"READY=1\nSTATUS={status}" if status else "READY=1")

    def reloading(self, now_s: float) -> None:
        """The service reads its configuration again; now_s: monotonic."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(now_s * 1e6)}")

    def stopping(self) -> None:
        """The service ends."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def alive(self, now_s: float) -> None:
        """The loop works: tell it when it is due; cheap otherwise. now_s: monotonic."""
        if self._every_s is None:
            return
        if self._last_s is None or not 0 <= now_s - self._last_s < self._every_s:
            self._last_s = now_s
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), self._address)
        except OSError as error:
            logger.warning("the service manager does not listen (%s)", error.strerror)
