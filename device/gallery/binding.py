"""A gallery belongs to one model at a time."""

from __future__ import annotations

from limen.device.gallery.points import short
from limen.device.gallery.store import Store
from limen.errors import ModelMismatchError


def bind_model(store: Store, model_id: str) -> None:
    """Take on `model_id` where nobody is enrolled. ModelMismatchError where it is another's."""
    if store.model_id == model_id:
        return
    with store.writing(references=True) as execute:
        (found,) = execute("SELECT model_id FROM door").fetchone()
        if former := execute("SELECT model_id FROM former").fetchone():
            if former[0] == model_id:
                raise ModelMismatchError(
                    f"the gallery moved from model {short(model_id)} to {short(found)}: use the "
                    "new bundle; the old one only serves those who have not come back (limen run)"
                )
            raise ModelMismatchError(
                f"gallery is on its way from model {short(former[0])} to {short(found)}, bundle is "
                f"{short(model_id)}: use the new bundle"
            )
        if execute("SELECT 1 FROM reference LIMIT 1").fetchone():
            raise ModelMismatchError(
                f"gallery holds templates of model {short(found)}, bundle is "
                f"{short(model_id)}: enrol again with 'limen enrol', install the old bundle, "
                "or move whose crops were kept with 'limen gallery migrate'"
            )
        # Negatives are of the old model too, and mean nothing to the new one.
        execute("DELETE FROM negative")
        execute("UPDATE door SET model_id = ?, operating_point = NULL", (model_id,))
