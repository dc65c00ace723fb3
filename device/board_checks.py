"""What is wrong with a board and its files, whatever model and gallery the door has."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from pathlib import Path

from limen.device.config import DoorConfig
from limen.device.findings import Finding, Grade
from limen.device.trusted_clock import TrustedClock
from limen.runtimes import available_runtimes

THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")
# Raspberry Pi's firmware: bit 0 under-voltage now, 2 throttled now, 16 and 18 the same since boot.
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
HOT_C, FREE_MB = 80.0, 200.0
TRUST_REMEDY = "timedatectl set-ntp true, or fit a battery-backed clock and set clock_trust = 'rtc'"


def versions() -> Finding:
    """Versions of Python, limen and the runtimes."""
    from limen import __version__

    runtimes = available_runtimes()
    text = (
        f"limen {__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"runtimes: {', '.join(runtimes) or 'none'}"
    )
    if not runtimes:
        return Finding("versions", Grade.FAIL, text, "pip install ai-edge-litert")
    return Finding("versions", Grade.OK, text)


def disk(folder: Path) -> Finding:
    """Room for the gallery's changes and the events."""
    there = next((f for f in (folder, *folder.parents) if f.exists()), Path("/"))
    free_mb = shutil.disk_usage(there).free / 1e6
    text = f"{free_mb:.0f} MB free at {there}"
    if free_mb < FREE_MB:
        return Finding("disk", Grade.FAIL, text, f"free some; at least {FREE_MB:.0f} MB")
    return Finding("disk", Grade.OK, text)


def permissions(config: DoorConfig) -> Finding:
    """Whether others can read what they should not, or this user cannot write what it must."""
    for path in (config.gallery, config.second_factor.file):
        if path.exists():
            status = path.stat()
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                return Finding(
                    "permissions", Grade.WARN, f"others may use {path}", f"chmod 600 {path}"
                )
            if not os.access(path, os.R_OK | os.W_OK):
                return Finding(
                    "permissions",
                    Grade.FAIL,
                    f"this user may not write {path}",
                    "run this as the door's user: sudo -u limen …",
                )
    return Finding("permissions", Grade.OK, "gallery and second factors are their owner's alone")


def temperature(path: Path = THERMAL) -> Finding:
    """The processor's temperature, where the board tells."""
    try:
        celsius = int(path.read_text()) / 1000
    except (OSError, ValueError):
        return Finding("temperature", Grade.SKIPPED, "this board does not tell")
    text = f"{celsius:.0f} °C"
    if celsius >= HOT_C:
        return Finding("temperature", Grade.WARN, text, "add a heat sink or air; it slows down")
    return Finding("temperature", Grade.OK, text)


def throttling(path: Path = THROTTLED) -> Finding:
    """Under-voltage and throttling, by the Raspberry Pi's firmware."""
    try:
        bits = int(path.read_text(), 16)
    except (OSError, ValueError):
        return Finding("power", Grade.SKIPPED, "this board does not tell")
    remedy = "use the board's own power supply and a short cable; a relay's coil needs its own"
    if bits & 0x1:
        return Finding("power", Grade.FAIL, "the voltage is too low", remedy)
    if bits & 0x10000:
        return Finding("power", Grade.WARN, "the voltage was too low since boot", remedy)
    if bits & 0x40004:
        return Finding("power", Grade.WARN, "slowed down since boot", "see the temperature")
    return Finding("power", Grade.OK, "voltage and clock are as they should be")


def clock(config: DoorConfig) -> Finding:
    """Whether hours and expiries can be kept."""
    wall = TrustedClock(config.clock_trust)()
    told = wall.now.isoformat(timespec="seconds")
    if wall.trusted:
        return Finding("clock", Grade.OK, f"{told}, trusted")
    return Finding("clock", Grade.WARN, f"{told}, not trusted", TRUST_REMEDY)
