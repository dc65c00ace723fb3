"""From a gallery to the recogniser that a door goes by."""

from __future__ import annotations

import logging
from collections.abc import Callable

from limen.device.former import Former
from limen.device.gallery import Gallery
from limen.device.permission import Permission
from limen.device.recogniser import Recogniser
from limen.device.side_by_side import load_moving
from limen.device.trusted_clock import WallTime, believed_now
from limen.errors import CalibrationError, ModelMismatchError

logger = logging.getLogger(__name__)


def load_recogniser(
    gallery: Gallery,
    model_id: str,
    *,
    find_lookalikes: bool = False,
    wall_clock: Callable[[], WallTime] = believed_now,
    former: Former | None = None,
) -> Recogniser:
    """The recogniser of a gallery at its operating point.

    former: what embeds as the model that a gallery on its way to another has come from.

    wall_clock: by which schedules and expiries are judged; one that is not trusted admits nobody
    who has either.

    ModelMismatchError where the gallery is of another model than `model_id`; CalibrationError
    where it has no operating point. A stale point is used with a warning: the gallery has changed,
    the evidence has not.
    """
    if move := gallery.move_under_way():
        return load_moving(
            *(gallery, move, model_id, former),
            find_lookalikes=find_lookalikes,
            wall_clock=wall_clock,
        )
    found = gallery.model_id
    if found != model_id:
        raise ModelMismatchError(
            f"gallery holds templates of model {found[:8]}…, bundle is {model_id[:8]}…: "
            "enrol again with 'limen enrol', or install the old bundle"
        )
    point = gallery.operating_point()
    if point is None:
        raise CalibrationError(
            "no threshold was calibrated for this gallery and model: enrol somebody, then run "
            "'limen calibrate'"
        )
    if gallery.calibration_is_stale():
        logger.warning("the gallery changed after it was calibrated: run 'limen calibrate' again")
    references = gallery.templates()
    permission = Permission(references, wall_clock)
    return Recogniser(
        references,
        point.threshold,
        probe_frames=point.probe_frames,
        permission=permission,
        find_lookalikes=find_lookalikes,
        by_condition=point.thresholds_by_condition(),
    )
