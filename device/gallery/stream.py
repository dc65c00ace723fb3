"""A large file sealed in chunks, so that neither writing nor reading it needs it whole in memory.

Each chunk of 1 MiB is sealed by AES-256-GCM under the file's own key. Its nonce is the chunk's number
and whether it is the last, so a file that was cut, or whose chunks were exchanged, does not open
(STREAM: Hoang, Reyhanitabar, Rogaway and Vizár, Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance, 2015, section 7). A key seals one file, once: then no nonce is used twice.
"""

from __future__ import annotations

from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from limen.device.gallery.sealing import NONCE_BYTES, TAG_BYTES, DamagedRecordError

CHUNK_BYTES = 2**20


class SealedWriter:
    """Seals what is written. `finish` seals the last chunk: without it, the file does not open."""

    def __init__(self, file: IO[bytes], key: bytes, bound_to: bytes) -> None:
        self._file = file
        self._aead = AESGCM(key)
        self._bound_to = bound_to
        self._number = 0
        self._waiting = bytearray()

    def write(self, content: bytes | memoryview) -> None:
        """Add bytes. OSError where the file cannot be written."""
        view = memoryview(content).cast("B")
        for begin in range(0, len(view), CHUNK_BYTES):
            self._waiting += view[begin : begin + CHUNK_BYTES]
            # One chunk always waits: whether it is the last is known only at the end.
            while len(self._waiting) > CHUNK_BYTES:
                self._seal(last=False)

    def finish(self) -> None:
        """Seal what still waits, as the last chunk."""
        self._seal(last=True)

    def _seal(self, *, last: bool) -> None:
        chunk = bytes(self._waiting[:CHUNK_BYTES])
        del self._waiting[:CHUNK_BYTES]
        self._file.write(self._aead.encrypt(_nonce(self._number, last), chunk, self._bound_to))
        self._number += 1


class SealedReader:
    """Opens what `SealedWriter` sealed, chunk by chunk; each is authenticated before it is handed out."""

    def __init__(self, file: IO[bytes], key: bytes, bound_to: bytes) -> None:
        self._file = file
        self._aead = AESGCM(key)
        self._bound_to = bound_to
        self._number = 0
        self._ended = False
        self._chunk = memoryview(b"")
        self._ahead = file.read(CHUNK_BYTES + TAG_BYTES)

    def read(self, count: int) -> bytes:
        """The next `count` bytes. DamagedRecordError where there are not so many, or not as written."""
        content = bytearray(count)
        self.read_into(memoryview(content))
        return bytes(content)

    def read_into(self, target: memoryview) -> None:
        """Fill `target` with the next bytes. DamagedRecordError as in `read`."""
        target = target.cast("B")
        filled = 0
        while filled < len(target):
            if not self._chunk:
                self._open_next()
            part = self._chunk[: len(target) - filled]
            target[filled : filled + len(part)] = part
            self._chunk = self._chunk[len(part) :]
            filled += len(part)

    def finish(self) -> None:
        """DamagedRecordError unless all was read, and nothing follows."""
        if not self._ended and not self._chunk:
            self._open_next()
        if self._chunk or not self._ended:
            raise DamagedRecordError("a sealed file is longer than it should be: it is made anew")

    def _open_next(self) -> None:
        if self._ended:
            raise DamagedRecordError("a sealed file is shorter than it should be: it is made anew")
        sealed, self._ahead = self._ahead, self._file.read(CHUNK_BYTES + TAG_BYTES)
        self._ended = not self._ahead
        try:
            opened = self._aead.decrypt(_nonce(self._number, self._ended), sealed, self._bound_to)
        except (InvalidTag, ValueError) as error:
            raise DamagedRecordError(
                "a sealed file was changed or cut, or is another's: it is made anew"
            ) from error
        self._number += 1
        self._chunk = memoryview(opened)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(NONCE_BYTES - 1, "big") + bytes([last])
