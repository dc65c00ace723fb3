"""What is wrong with a door, one line each with its remedy, worst things found before a visitor is."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from limen.bundle import Bundle, open_bundle
from limen.detection import Detector
from limen.device.camera_health import HealthMonitor
from limen.device.config import DoorConfig
from limen.device.drift_monitor import drift_state
from limen.device.gallery import Gallery
from limen.device.gatekeeper import Demand
from limen.device.models import open_models
from limen.device.second_factor import SecondFactors
from limen.device.sources import is_live, open_source
from limen.device.subjects import SubjectDetails
from limen.device.trusted_clock import TrustedClock
from limen.embedder import Embedder
from limen.errors import LimenError
from limen.runtimes import available_runtimes

THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")
# Raspberry Pi's firmware: bit 0 under-voltage now, 2 throttled now, 16 and 18 the same since boot.
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
HOT_C, FREE_MB = 80.0, 200.0
CAMERA_S, CAMERA_FRAMES = 8.0, 10
DIM_MEAN, BRIGHT_MEAN = 40.0, 215.0
TRUST_REMEDY = "timedatectl set-ntp true, or fit a battery-backed clock and set clock_trust = 'rtc'"


class Grade(StrEnum):
    """How a finding is meant. FAIL: the door does not work like this."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. remedy: what to do, '' where nothing is to be done."""

    name: str
    grade: Grade
    text: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def examine(
    config: DoorConfig, open_gallery: Callable[[], Gallery], *, camera: bool = True
) -> Iterator[Finding]:
    """Examine the door of a configuration, from the cheap to the slow. Drives no pin.

    open_gallery: opens the configuration's gallery, with its key; its errors are a finding.
    camera: whether the source is opened; a door that runs already holds it.
    """
    yield versions()
    yield disk(config.gallery.parent)
    yield permissions(config)
    yield temperature()
    yield throttling()
    yield clock(config)
    yield lock(config)
    yield second_factor(config)
    try:
        bundle = open_bundle(config.bundle)
    except LimenError as error:
        yield _failure("model", error)
    else:
        yield model(bundle, config)
        yield from gallery(bundle, config, open_gallery)
    if camera:
        yield from see(config)
    else:
        yield Finding("camera", Grade.SKIPPED, "not opened")


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


def hours(details: Sequence[SubjectDetails], config: DoorConfig) -> Finding:
    """Who may enter only at times, or not any more; nobody of them while the clock is not trusted."""
    timed = sum(bool(each.schedule) or each.expires_at is not None for each in details)
    barred = sum(not each.may_enter for each in details)
    text = f"{timed} with hours or an expiry, {barred} who may not enter"
    if timed and not TrustedClock(config.clock_trust)().trusted:
        return Finding(
            "hours", Grade.FAIL, f"{text}; the clock is not trusted: {timed} stay out", TRUST_REMEDY
        )
    return Finding("hours", Grade.OK, text)


def lock(config: DoorConfig) -> Finding:
    """Whether the lock can be driven; asks the lock's process, and drives nothing."""
    if config.lock.kind == "simulated":
        return Finding("lock", Grade.WARN, "simulated: no door opens", "set lock.kind = 'gpio'")
    if config.lock.socket is not None:
        from limen.device.lock_process.client import ProcessLock

        try:
            with ProcessLock.connect(config.lock.socket) as client:
                state = client.state()
        except LimenError as error:
            return _failure("lock", error)
        if state.tampered:
            return Finding("lock", Grade.FAIL, "the casing is open", "close it")
        return Finding("lock", Grade.OK, "locked" if state.locked else "let go of")
    chips = sorted(Path("/dev").glob("gpiochip*"))
    if not chips:
        return Finding("lock", Grade.FAIL, "no GPIO chip", "run this on the board with the relay")
    if not any(os.access(chip, os.R_OK | os.W_OK) for chip in chips):
        return Finding(
            "lock", Grade.FAIL, "this user may not use the pins", "sudo usermod -aG gpio $USER"
        )
    return Finding("lock", Grade.OK, f"pin {config.lock.pin}, not driven by this examination")


def second_factor(config: DoorConfig) -> Finding:
    """Whether whoever is asked can answer."""
    if config.second_factor.demand is Demand.NEVER:
        return Finding("second factor", Grade.SKIPPED, "never asked for")
    try:
        held = len(SecondFactors(config.second_factor.file).subjects())
    except LimenError as error:
        return _failure("second factor", error)
    if held == 0:
        return Finding("second factor", Grade.FAIL, "nobody has one", "limen factor set SUBJECT")
    return Finding("second factor", Grade.OK, f"{held} subjects have one")


def model(bundle: Bundle, config: DoorConfig) -> Finding:
    """Whether finder and embedder run here, and how long a face takes."""
    try:
        _, embedder = _models(bundle, config)
        crop = np.zeros((1, 112, 112, 3), np.uint8)
        embedder.embed(crop)
        started_s = time.perf_counter()
        embedder.embed(crop)
        took_ms = 1000 * (time.perf_counter() - started_s)
    except LimenError as error:
        return _failure("model", error)
    return Finding("model", Grade.OK, f"{embedder.model_id[:8]}…, {took_ms:.0f} ms a face, one run")


def gallery(
    bundle: Bundle, config: DoorConfig, open_gallery: Callable[[], Gallery]
) -> Iterator[Finding]:
    """Whether the gallery is of this bundle, holds somebody, and is calibrated."""
    try:
        with open_gallery() as opened:
            found, subjects = opened.model_id, opened.subjects()
            people = len(subjects)
            drift = drift_state(opened)
            point, stale = opened.operating_point(), opened.calibration_is_stale()
        expected = _models(bundle, config)[1].model_id
    except LimenError as error:
        yield _failure("gallery", error)
        return
    if found != expected:
        yield Finding(
            "gallery",
            Grade.FAIL,
            f"is of model {found[:8]}…, the bundle is {expected[:8]}…",
            "enrol again, or install the old bundle",
        )
    elif people == 0:
        yield Finding("gallery", Grade.FAIL, "nobody is enrolled", "limen enrol SUBJECT PICTURE…")
    else:
        yield Finding("gallery", Grade.OK, f"{people} subjects")
        yield hours([subject.details for subject in subjects], config)
    if point is None:
        yield Finding("threshold", Grade.FAIL, "never calibrated", "limen calibrate")
    elif stale:
        yield Finding("threshold", Grade.WARN, "the gallery changed since", "limen calibrate again")
    else:
        yield Finding(
            "threshold", Grade.OK, f"{point.threshold:.4f}, FMR at most {point.max_fmr:g}"
        )
    if drift is not None and drift.recalibrate:
        yield Finding(
            "drift",
            Grade.WARN,
            f"recalibrate: {'; '.join(drift.reasons)}",
            "limen calibrate --guided",
        )
    elif drift is not None:
        yield Finding(
            "drift", Grade.OK, f"none seen in {drift.visits} visits and {drift.looks} looks"
        )


def _models(bundle: Bundle, config: DoorConfig) -> tuple[Detector, Embedder]:
    return open_models(
        bundle,
        config.gallery,
        runtime=config.runtime,
        precision=config.precision,
        yunet=config.yunet,
    )


def see(config: DoorConfig) -> Iterator[Finding]:
    """Whether the camera gives pictures with light and detail in them."""
    monitor, means, size = HealthMonitor(), [], ""
    late_s = time.monotonic() + CAMERA_S
    try:
        with open_source(config.source) as source:
            for frame in source:
                monitor.see(frame)
                means.append(float(frame.image.mean()))
                size = f"{frame.image.shape[1]} x {frame.image.shape[0]} px"
                if len(means) >= CAMERA_FRAMES or time.monotonic() > late_s:
                    break
    except LimenError as error:
        yield _failure("camera", error)
        return
    live = "" if is_live(config.source) else ", not a live camera"
    yield Finding("camera", Grade.OK, f"{len(means)} frames of {size}{live}")
    mean = means[-1]
    if mean < DIM_MEAN or mean > BRIGHT_MEAN:
        dark = mean < DIM_MEAN
        yield Finding(
            "exposure",
            Grade.WARN,
            f"mean grey level {mean:.0f} of 255: {'dark' if dark else 'glaring'}",
            "add light in front of the visitor" if dark else "turn the camera away from the light",
        )
    else:
        yield Finding("exposure", Grade.OK, f"mean grey level {mean:.0f} of 255")


def _failure(name: str, error: LimenError) -> Finding:
    """An error's sentence ends with its remedy."""
    text, _, remedy = str(error).rpartition(": ")
    return Finding(name, Grade.FAIL, text or remedy, remedy if text else "")
