from __future__ import annotations

import io
import os
import struct
import time
from pathlib import Path

import pytest

from limen.device.keypad import HidKeypad, Keypad, LineKeypad
from limen.errors import SourceError

EVENT = struct.Struct("llHHi")
CODES = {"1": 2, "3": 4, "5": 6, "7": 8, "0": 11, "<": 14, "\n": 28, "A": 30, "?": 53}


def typed(text: str) -> bytes:
    """Each key goes down and up, with the synchronising event between, as the kernel tells it."""
    return b"".join(
        EVENT.pack(0, 0, 1, CODES[key], value) + EVENT.pack(0, 0, 0, 0, 0)
        for key in text
        for value in (1, 0)
    )


def wait_for(keypad: Keypad) -> str | None:
    end_s = time.monotonic() + 5
    while time.monotonic() < end_s:
        entry = keypad.take()
        if entry is not None:
            return entry
        time.sleep(0.01)
    return None


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "keypad"
    os.mkfifo(path)
    return path


def test_keys_become_an_entry_at_enter(device: Path) -> None:
    keypad = HidKeypad(device)
    writer = os.open(device, os.O_WRONLY)
    keys = typed("13?7<57\n")
    os.write(writer, keys[:100])  # cut in the middle of an event
    os.write(writer, keys[100:])
    assert wait_for(keypad) == "1357"
    os.write(writer, typed("\n70A\n"))
    assert wait_for(keypad) == "70A"
    keypad.close()
    keypad.close()
    os.close(writer)


def test_half_an_entry_is_forgotten(device: Path) -> None:
    now_s = [0.0]
    keypad = HidKeypad(device, clock=lambda: now_s[0])
    writer = os.open(device, os.O_WRONLY)
    os.write(writer, typed("77"))
    time.sleep(0.4)
    now_s[0] = 11.0
    os.write(writer, typed("13\n"))
    assert wait_for(keypad) == "13"
    keypad.close()
    os.close(writer)


def test_keypad_that_is_unplugged_is_waited_for_and_half_an_entry_is_not_kept(
    device: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keypad = HidKeypad(device)
    writer = os.open(device, os.O_WRONLY)
    os.write(writer, typed("77"))
    time.sleep(0.3)
    os.close(writer)
    device.unlink()
    time.sleep(0.8)
    os.mkfifo(device)
    with device.open("wb", buffering=0) as writer_again:  # waits until somebody reads
        writer_again.write(typed("13\n"))
        assert wait_for(keypad) == "13"
        keypad.close()
    assert ["gone" in m or "back" in m for m in caplog.messages] == [True, True]


def test_missing_keypad_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="group 'input'"):
        HidKeypad(tmp_path / "none")


def test_lines_are_entries_and_nobody_types_ahead() -> None:
    keypad = LineKeypad(io.StringIO("04A219FF\n\n  1357 \n" + "9\n" * 20))
    assert wait_for(keypad) == "04A219FF"
    entries = []
    while (entry := keypad.take()) is not None:
        entries.append(entry)
    assert entries[0] == "1357"
    assert len(entries) <= 5
