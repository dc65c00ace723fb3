"""Entries of a second factor: lines on a stream, or a keypad or card reader that types (HID)."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import queue
import select
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from limen.device.second_factor import MAX_ENTRY_CHARACTERS
from limen.errors import SourceError

logger = logging.getLogger(__name__)

# linux/input.h: struct input_event is a struct timeval, then type, code and value.
_EVENT = struct.Struct("llHHi")
_EV_KEY, _PRESSED = 1, 1
_EVIOCGRAB = 0x40044590
_ENTER, _BACKSPACE = {28, 96}, 14
_KEYS = {
    **dict(zip(range(2, 12), "1234567890", strict=True)),
    **dict(zip((79, 80, 81, 75, 76, 77, 71, 72, 73, 82), "1234567890", strict=True)),
    **dict(zip((30, 48, 46, 32, 18, 33), "ABCDEF", strict=True)),
}
# Half an entry that somebody walked away from is not the start of the next one's.
FORGET_S = 10.0
# A keypad that was unplugged is looked for again, ever more patiently.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0


class Keypad(Protocol):
    """Gives entries. `take` never waits."""

    def take(self) -> str | None:
        """The next whole entry, or None."""
        ...

    def close(self) -> None:
        """Let go of the device. Closing twice is harmless."""
        ...


class _Entries:
    """Entries from a thread, held by a short queue: nobody types ahead of a door."""

    def __init__(self) -> None:
        self._entries: queue.Queue[str] = queue.Queue(maxsize=4)

    def put(self, entry: str) -> None:
        if entry:
            with contextlib.suppress(queue.Full):
                self._entries.put_nowait(entry[:MAX_ENTRY_CHARACTERS])

    def take(self) -> str | None:
        try:
            return self._entries.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class LineKeypad(_Entries):
    """A line of a text stream is an entry, as card readers on a serial line write them."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream = stream
        threading.Thread(target=self._read_on, name="limen-keypad", daemon=True).start()

    def _read_on(self) -> None:
        # A bounded read: a line without an end must not fill the memory.
        with contextlib.suppress(OSError, ValueError):
            while line := self._stream.readline(4 * MAX_ENTRY_CHARACTERS):
                self.put(line.strip())


class HidKeypad(_Entries):
    """A keypad or card reader that acts as a keyboard: /dev/input/by-id/…-kbd, digits and Enter.

    The device is grabbed, so that what is typed at the door is typed nowhere else. SourceError
    where it cannot be opened; one that is unplugged later is waited for.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._path = path
        self._closed = threading.Event()
        try:
            descriptor = self._open()
        except OSError as error:
            raise SourceError(
                f"{path}: the keypad cannot be opened ({error.strerror}): plug it in, and add this "
                "user to the group 'input'"
            ) from error
        self._thread = threading.Thread(
            target=self._read_on, args=(descriptor,), name="limen-keypad", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=1.0)

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with contextlib.suppress(OSError):  # a pipe, or a device that somebody else has grabbed
            fcntl.ioctl(descriptor, _EVIOCGRAB, 1)
        return descriptor

    def _read_on(self, descriptor: int) -> None:
        while True:
            why = self._read_until_it_goes(descriptor)
            if self._closed.is_set():
                return
            logger.warning("%s: the keypad is gone (%s), and waited for", self._path, why)
            found = self._wait_for_it()
            if found is None:
                return
            descriptor = found
            logger.warning("%s: the keypad is back", self._path)

    def _read_until_it_goes(self, descriptor: int) -> str:
        """Entries until the device is gone; why it is."""
        typist = _Typist(self._clock)  # half an entry does not outlive an unplugged cable
        rest = b""
        try:
            while not self._closed.is_set():
                if not select.select([descriptor], [], [], 0.1)[0]:
                    continue
                read = os.read(descriptor, 64 * _EVENT.size)
                if not read:
                    break
                rest += read
                whole = len(rest) - len(rest) % _EVENT.size
                for _, _, kind, code, value in _EVENT.iter_unpack(rest[:whole]):
                    if kind == _EV_KEY and value == _PRESSED:
                        self.put(typist.press(code))
                rest = rest[whole:]
        except OSError as error:
            return error.strerror or "error"
        finally:
            os.close(descriptor)
        return "it ended"

    def _wait_for_it(self) -> int | None:
        """The device, opened again once it is there; None where the door stops before that."""
        wait_s = FIRST_WAIT_S
        while not self._closed.wait(wait_s):
            try:
                return self._open()
            except OSError:
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        return None


class _Typist:
    """Keys to an entry."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._typed = ""
        self._last_s = clock()

    def press(self, code: int) -> str:
        """Take a key; the whole entry at Enter, else ''."""
        now_s = self._clock()
        if now_s - self._last_s > FORGET_S:
            self._typed = ""
        self._last_s = now_s
        if code in _ENTER:
            entry, self._typed = self._typed, ""
            return entry
        if code == _BACKSPACE:
            self._typed = self._typed[:-1]
        else:
            self._typed = (self._typed + _KEYS.get(code, ""))[-MAX_ENTRY_CHARACTERS:]
        return ""
