"""The verb gallery migrate: the people of a door, moved to another model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli.gallery import gallery_app
from limen.cli.options import (
    BundleOption,
    GalleryOption,
    JsonOption,
    PrecisionOption,
    Recognition,
    RuntimeOption,
    YuNetOption,
    gallery_path,
    open_gallery,
    open_recognition,
)
from limen.cli.output import note, print_table, progress_bar, say, say_json

if TYPE_CHECKING:
    from limen.device.gallery import Gallery
    from limen.device.subjects import SubjectRecord

MOST_ATTEMPTS = 10


def register(app: typer.Typer) -> None:
    """Add this module's verb to `gallery`."""
    gallery_app.command("migrate")(migrate)


def migrate(
    finish: Annotated[
        bool, typer.Option("--finish", help="Everybody is back: erase what the old model knew.")
    ] = False,
    leave_behind: Annotated[
        bool, typer.Option("--leave-behind", help="Finish though somebody has not come back.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Say who would move, and change nothing.")] = False,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Move a gallery to the bundle's model: kept crops are embedded again, the others must come back.

    Killed at any time, it goes on where it was. Until --finish, a door serves both models:
    'limen run --bundle NEW --former-bundle OLD'.
    """
    from limen.errors import ConfigError, GalleryError

    if leave_behind and not finish:
        raise ConfigError("--leave-behind goes with --finish")
    ready = open_recognition(bundle, runtime, precision, yunet, gallery_path(gallery))
    need = None if dry_run else "delete" if finish else "enrol"
    with open_gallery(gallery, need=need) as opened:
        move = opened.move_under_way()
        is_of_it = opened.model_id == ready.embedder.model_id
        if move is not None and not is_of_it:
            raise GalleryError(
                f"gallery is on its way from model {move.former[:8]}… to {opened.model_id[:8]}…, "
                f"bundle is {ready.embedder.model_id[:8]}…: finish that move first, with its bundle"
            )
        if finish and not dry_run:
            _finish(opened, leave_behind, json)
        elif is_of_it:
            _tell_where_it_stands(opened, json)
        else:
            _move(opened, ready, dry_run, json)


def _move(gallery: Gallery, ready: Recognition, dry_run: bool, json: bool) -> None:
    from limen.device.gallery.moving import stage, switch
    from limen.errors import GalleryError

    before, former, to = gallery.subjects(), gallery.model_id, ready.embedder.model_id
    unreadable: set[int] = set()
    if not dry_run:
        for _ in range(MOST_ATTEMPTS):
            crops = sum(record.crops for record in gallery.subjects())
            with progress_bar("kept crops", crops) as progress:
                unreadable |= stage(
                    gallery.store,
                    to,
                    ready.embedder.embed,
                    lambda done: progress.update(progress.task_ids[0], completed=done),
                )
            if switch(gallery.store, to, unreadable):
                break
        else:
            raise GalleryError("somebody enrols all the while: try again when nobody does")
    after = {r.subject_id: r.references for r in gallery.subjects()} if not dry_run else {}
    people = [_told(record, after.get(record.subject_id)) for record in before]
    move = gallery.move_under_way()
    told = {
        "from": former,
        "to": to,
        "moved": not dry_run,
        "people": people,
        "must_come_back": list(move.waiting)
        if move
        else [row["subject"] for row in people if not row["references"]],
        "crops_unreadable": len(unreadable),
        "negatives_left_behind": sum(record.negatives for record in before),
    }
    if json:
        say_json(told)
        return
    rows = [
        [
            row["subject"],
            f"{row['references']} of {row['of']}",
            "moved" if row["references"] else "must come back",
        ]
        for row in people
    ]
    print_table("would move" if dry_run else "moved", ["subject", "references", ""], rows)
    _advise(told)


def _told(record: SubjectRecord, now: int | None) -> dict[str, Any]:
    """What becomes of one person. now: references of the new model, None where nothing was moved."""
    references = record.crops if now is None else now
    return {"subject": record.subject_id, "references": references, "of": record.references}


def _advise(told: dict[str, Any]) -> None:
    back = told["must_come_back"]
    if told["crops_unreadable"]:
        note(f"{told['crops_unreadable']} kept crops are no pictures any more and were passed over")
    if told["negatives_left_behind"]:
        note(
            f"{told['negatives_left_behind']} templates of 'not this person' mean nothing to the "
            "new model: show it those pictures again with 'limen subjects not'"
        )
    if not told["moved"]:
        note(f"a dry run: nothing was changed; {len(back)} would have to come back")
        return
    note(
        "a threshold belongs to its model: run 'limen calibrate' with this bundle next; until then "
        "the new model opens to nobody, and the old one serves everybody"
    )
    note("serve both until the move is finished: limen run --bundle NEW --former-bundle OLD")
    _say_who_waits(back)


def _say_who_waits(back: list[str]) -> None:
    if back:
        note(f"{len(back)} must come back ('limen enrol'): {', '.join(back)}")
        note("when they have: limen gallery migrate --finish")
    else:
        note("nobody must come back; after calibrating: limen gallery migrate --finish")


def _tell_where_it_stands(gallery: Gallery, json: bool) -> None:
    move, point = gallery.move_under_way(), gallery.operating_point()
    if json:
        say_json(
            {
                "from": move.former if move else None,
                "to": gallery.model_id,
                "moved": False,
                "must_come_back": list(move.waiting) if move else [],
                "calibrated": point is not None,
            }
        )
        return
    if move is None:
        say("the gallery is of this bundle's model already: there is nothing to move")
        return
    say(f"on its way from model {move.former[:8]}… to {gallery.model_id[:8]}…")
    if point is None:
        note("not calibrated yet for the new model: limen calibrate")
    _say_who_waits(list(move.waiting))


def _finish(gallery: Gallery, leave_behind: bool, json: bool) -> None:
    from limen.device.gallery.moving import finish
    from limen.errors import GalleryError

    move = gallery.move_under_way()
    waiting = list(move.waiting) if move else []
    if waiting and not leave_behind:
        raise GalleryError(
            f"{len(waiting)} are known to the old model only: {', '.join(waiting)}: enrol them "
            "again first, or add --leave-behind"
        )
    purged = finish(gallery.store, leave_behind=leave_behind)
    if json:
        say_json({"finished": True, "left_behind": waiting, "bytes_overwritten": purged})
        return
    say("the move is finished: the gallery knows the new model only")
    note(
        "former_bundle can go from the door's configuration; older backups open with the old model"
    )
    if not purged:
        note("another process reads the gallery: the old templates go when it is opened next")
    if waiting:
        note(f"left without references: {', '.join(waiting)}")
