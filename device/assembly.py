"""A door put together from its configuration, and put right when the configuration changes."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from limen.detection import Detector
from limen.device.admission import Admitter
from limen.device.config import DoorConfig
from limen.device.door import Door
from limen.device.gallery import Gallery
from limen.device.gallery.records import enrolled_uids, subject_uid
from limen.device.gatekeeper import Demand, FactorCheck, Gatekeeper
from limen.device.keypad import HidKeypad, Keypad, LineKeypad
from limen.device.lock import Lock
from limen.device.recogniser import Recogniser
from limen.device.second_factor import SecondFactors
from limen.embedder import Embedder
from limen.errors import ConfigError, LimenError
from limen.settings import explain_validation_error

logger = logging.getLogger(__name__)

# What a running door cannot change its mind about.
FIXED = (
    "source",
    "gallery",
    "key",
    "audit",
    "audit_scores",
    "drift",
    "bundle",
    "former_bundle",
    "runtime",
    "precision",
    "yunet",
    "lock",
    "events",
    "reconnect",
    "clock_trust",
)


def make_gatekeeper(config: DoorConfig, gallery: Gallery) -> Gatekeeper:
    """Votes, limits and second factor of a configuration.

    gallery: whose subjects the second factors are of; others' count for nothing. ConfigError where the file of second factors is damaged.
    """
    factors = config.second_factor
    check: FactorCheck | None = None
    if factors.demand is not Demand.NEVER:
        kept = SecondFactors(factors.file)
        held, enrolled = set(kept.subjects()), enrolled_uids(gallery.store)
        if gone := len(held - enrolled):
            logger.warning(
                "%s: the factors of %d who are not enrolled (any more) are ignored: "
                "'limen factor remove --gone'",
                factors.file,
                gone,
            )
        if not held & enrolled:
            logger.warning(
                "%s: nobody has a second factor yet: 'limen factor set SUBJECT'", factors.file
            )
        # Read anew for each entry: a PIN that was changed or taken away is so at once.
        check = partial(_check_factor, factors.file, gallery)

    return Gatekeeper(
        Admitter(config.admission_policy()),
        limits=config.limits.policy(),
        demand=factors.demand,
        check_factor=check,
        patience_s=factors.patience_s,
    )


def _check_factor(path: Path, gallery: Gallery, subject_id: str, entry: str) -> bool:
    try:
        return SecondFactors(path).check(subject_uid(gallery.store, subject_id), entry)
    except LimenError as error:  # fails closed; the door goes on for whoever needs no factor
        logger.warning("%s", error)
        return False


def make_door(
    config: DoorConfig,
    detector: Detector,
    embedder: Embedder,
    recogniser: Recogniser,
    gatekeeper: Gatekeeper,
    lock: Lock,
) -> Door:
    """The door of a configuration."""
    return Door(
        detector,
        embedder,
        recogniser,
        gatekeeper,
        lock,
        unlock_for_s=config.unlock_for_s,
        min_quality=config.min_quality,
        min_face_px=config.min_face_px,
        follow=config.follow_policy(),
    )


def open_keypad(config: DoorConfig) -> Keypad | None:
    """Where entries come from; None where none are asked for. SourceError where it is not there."""
    if config.second_factor.demand is Demand.NEVER:
        return None
    if config.second_factor.input == "stdin":
        return LineKeypad(sys.stdin)
    return HidKeypad(Path(config.second_factor.input))


def reconfigure(door: Door, gatekeeper: Gatekeeper, old: DoorConfig, new: DoorConfig) -> DoorConfig:
    """Take over what a running door can, and return the configuration now in force.

    Settings in FIXED stay as they were, with a warning. ConfigError, before anything changed, where
    the new rules cannot be kept.
    """
    kept = {name for name in FIXED if getattr(old, name) != getattr(new, name)}
    fixed = {name: value for name, value in old.model_dump().items() if name in FIXED}
    factor = new.second_factor.model_copy(
        update={"input": old.second_factor.input, "file": old.second_factor.file}
    )
    if factor != new.second_factor:
        kept.add("second_factor")
    if kept:
        logger.warning("taken over at the next start only: %s", ", ".join(sorted(kept)))
    try:
        # Validated whole: the new rules must also be right for the old lock.
        merged = DoorConfig.model_validate(
            {**new.model_dump(), **fixed, "second_factor": factor.model_dump()}
        )
    except ValidationError as error:
        raise ConfigError(explain_validation_error(error, DoorConfig)) from error
    gatekeeper.reconfigure(
        merged.admission_policy(),
        limits=merged.limits.policy(),
        demand=merged.second_factor.demand,
        patience_s=merged.second_factor.patience_s,
    )
    door.reconfigure(
        unlock_for_s=merged.unlock_for_s,
        min_quality=merged.min_quality,
        min_face_px=merged.min_face_px,
        follow=merged.follow_policy(),
    )
    return merged
