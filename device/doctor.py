"""What is wrong with a door, one line each with its remedy, worst things found before a visitor is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from limen.bundle import Bundle, open_bundle
from limen.detection import Detector
from limen.device.board_checks import (
    TRUST_REMEDY,
    clock,
    disk,
    permissions,
    temperature,
    throttling,
    versions,
)
from limen.device.camera_health import HealthMonitor
from limen.device.config import DoorConfig
from limen.device.drift_monitor import drift_state
from limen.device.findings import Finding, Grade, failure
from limen.device.gallery import Gallery
from limen.device.gallery.access import has_owner
from limen.device.gallery.keys import KeyFile, credential_key, default_key, read_key_file
from limen.device.gallery.moving import Move
from limen.device.gatekeeper import Demand
from limen.device.models import open_models
from limen.device.second_factor import SecondFactors
from limen.device.sources import is_live, open_source
from limen.device.subjects import SubjectDetails
from limen.device.trusted_clock import TrustedClock
from limen.device.tuned import open_tuned, read_tuning, tuning_file, tuning_key
from limen.embedder import Embedder
from limen.errors import LimenError
from limen.trust import SYSTEM_KEYS

CAMERA_S, CAMERA_FRAMES = 8.0, 10
DIM_MEAN, BRIGHT_MEAN = 40.0, 215.0


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
    yield key(config)
    try:
        bundle = open_bundle(config.bundle)
    except LimenError as error:
        yield failure("model", error)
    else:
        yield signature(bundle, config)
        yield model(bundle, config)
        yield tuning(bundle, config)
        yield from gallery(bundle, config, open_gallery)
    if camera:
        yield from see(config)
    else:
        yield Finding("camera", Grade.SKIPPED, "not opened")


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
            return failure("lock", error)
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
        return failure("second factor", error)
    if held == 0:
        return Finding("second factor", Grade.FAIL, "nobody has one", "limen factor set SUBJECT")
    return Finding("second factor", Grade.OK, f"{held} subjects have one")


def key(config: DoorConfig) -> Finding:
    """Whether the gallery's key is there, whole and private."""
    source = KeyFile(config.key) if config.key else credential_key() or default_key(config.gallery)
    if os.environ.get("LIMEN_PASSPHRASE_FILE") or os.environ.get("LIMEN_KEY"):
        return Finding("key", Grade.SKIPPED, "named by the environment")
    if not config.gallery.exists() and not source.path.exists():
        return Finding("key", Grade.SKIPPED, "made with the gallery")
    try:
        read_key_file(source.path)
    except LimenError as error:
        return failure("key", error)
    beside = source.path.parent == config.gallery.parent
    text = f"{source.path}" + (
        ", beside the gallery: who takes the card has both" if beside else ""
    )
    return Finding("key", Grade.OK, text)


def signature(bundle: Bundle, config: DoorConfig) -> Finding:
    """Who vouches for the bundle."""
    if config.bundle is None:
        return Finding("signature", Grade.OK, "the bundle that ships with limen, by its digest")
    if bundle.signer is not None:
        return Finding("signature", Grade.OK, f"signed by {bundle.signer.key_id}, which is trusted")
    return Finding(
        "signature",
        Grade.WARN,
        "this board trusts no key, so any whole bundle is opened",
        f"put its maker's public key into {SYSTEM_KEYS}",
    )


def tuning(bundle: Bundle, config: DoorConfig) -> Finding:
    """Whether this board's best was looked for, with what is installed now."""
    path = tuning_file(config.gallery)
    found = read_tuning(path)
    if config.runtime is not None or config.precision is not None:
        return Finding("tuning", Grade.SKIPPED, "the configuration names runtime or precision")
    if found is None:
        return Finding("tuning", Grade.WARN, "this board was never timed", "limen tune")
    if found.key != tuning_key(bundle) or open_tuned(bundle, path, config.yunet) is None:
        return Finding(
            "tuning", Grade.WARN, "of another bundle, runtime or machine", "limen tune again"
        )
    return Finding("tuning", Grade.OK, f"{found.embedder.path}, {found.embedder.median_ms:.1f} ms")


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
        return failure("model", error)
    return Finding("model", Grade.OK, f"{embedder.model_id[:8]}…, {took_ms:.0f} ms a face, one run")


def gallery(
    bundle: Bundle, config: DoorConfig, open_gallery: Callable[[], Gallery]
) -> Iterator[Finding]:
    """Whether the gallery is of this bundle, holds somebody, has an owner, and is calibrated."""
    try:
        with open_gallery() as opened:
            found, subjects = opened.model_id, opened.subjects()
            people = len(subjects)
            drift = drift_state(opened)
            point, stale = opened.operating_point(), opened.calibration_is_stale()
            move = opened.move_under_way()
            owned = has_owner(opened.store)
        expected = _models(bundle, config)[1].model_id
    except LimenError as error:
        yield failure("gallery", error)
        return
    if move is not None:
        yield from _on_its_way(move, config)
        if expected == move.former:  # a door that still runs the old bundle is judged by its point
            found, point, stale = expected, move.point, False
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
    if not owned and config.lock.kind == "gpio":
        yield Finding(
            "owner", Grade.FAIL, "nobody owns the gallery of a real lock", "limen owner set"
        )
    served = move is not None and move.point is not None and config.former_bundle is not None
    if point is None and served:
        yield Finding("threshold", Grade.WARN, "the former model's only", "limen calibrate")
    elif point is None:
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


def _on_its_way(move: Move, config: DoorConfig) -> Iterator[Finding]:
    """Whom a move to another model leaves outside."""
    waiting = len(move.waiting)
    if waiting and config.former_bundle is None:
        told = f"{waiting} people are known to the former model only, which is not served"
        yield Finding("move", Grade.WARN, told, "set former_bundle, or enrol them again")
    elif waiting:
        told = f"{waiting} people must come back"
        yield Finding("move", Grade.WARN, told, "limen gallery migrate says who")
    else:
        yield Finding(
            "move",
            Grade.WARN,
            "everybody is back",
            "limen gallery migrate --finish, once calibrated",
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
        yield failure("camera", error)
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
