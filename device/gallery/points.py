"""Operating points in the file: sealed, so that a threshold cannot be lowered without the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limen.calibration.operating_point import OperatingPoint
from limen.device.gallery.sealing import context
from limen.device.gallery.vault import Vault
from limen.errors import CalibrationError, ModelMismatchError

if TYPE_CHECKING:
    from limen.device.gallery.store import Execute, Store


def seal_point(vault: Vault, point: OperatingPoint) -> bytes:
    """An operating point as it lies in the file."""
    return vault.records.seal(point.model_dump_json().encode(), context("operating point"))


def opened_point(vault: Vault, sealed: bytes) -> OperatingPoint:
    """The operating point. CalibrationError or GalleryError where the stored one is damaged."""
    return OperatingPoint.from_json(vault.records.open(sealed, context("operating point")).decode())


def keep_point(
    store: Store, execute: Execute, point: OperatingPoint, reference_state: int | None
) -> None:
    """Put `point` in force.

    reference_state: what it was calibrated on; CalibrationError where references have changed
    since. ModelMismatchError where it is of another model.
    """
    model_id, state = execute("SELECT model_id, reference_changes FROM door").fetchone()
    if point.model_id != model_id:
        raise ModelMismatchError(
            f"gallery holds templates of model {short(model_id)}, the operating point is "
            f"of {short(point.model_id)}: run 'limen calibrate' with the gallery's bundle"
        )
    if reference_state is not None and reference_state != state:
        raise CalibrationError(
            "the gallery was changed while it was calibrated, so the result is of people "
            "who are no longer the ones enrolled: run 'limen calibrate' again"
        )
    number = execute(
        "INSERT INTO operating_point (reference_changes, sealed)"
        " SELECT reference_changes, ? FROM door",
        (seal_point(store.vault, point),),
    ).lastrowid
    execute("UPDATE door SET operating_point = ?", (number,))
    store.note("calibrated", {"threshold": point.threshold, "max_fmr": point.max_fmr})


def put_earlier_point_in_force(store: Store, execute: Execute) -> OperatingPoint:
    """Put the point before the one in force back in force; the history keeps both.

    CalibrationError where there is none of this model before it.
    """
    model_id, in_force = execute("SELECT model_id, operating_point FROM door").fetchone()
    rows = execute(
        "SELECT id, sealed FROM operating_point WHERE id < ? ORDER BY id DESC", (in_force,)
    ).fetchall()
    for number, sealed in rows:
        point = opened_point(store.vault, sealed)
        if point.model_id == model_id:
            execute("UPDATE door SET operating_point = ?", (number,))
            store.note("stepped back", {"threshold": point.threshold, "max_fmr": point.max_fmr})
            return point
    raise CalibrationError(
        "there is no earlier operating point of this model to go back to; the one in force stays"
    )


def short(model_id: str) -> str:
    """A model id for a message."""
    return model_id if len(model_id) <= 8 else f"{model_id[:8]}…"
