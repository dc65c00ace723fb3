"""The verbs over references that the door adds by itself: subjects adaptation list, on, off, undo."""

from __future__ import annotations

from typing import Annotated

import typer

from limen.cli.options import GalleryOption, JsonOption, authorise, open_gallery
from limen.cli.output import note, print_table, say, say_json
from limen.cli.subjects import subjects_app

adaptation_app = typer.Typer(
    help="References that the door adds by itself: off unless the owner turns it on.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add this module's verbs to `subjects`."""
    subjects_app.add_typer(adaptation_app, name="adaptation")


@adaptation_app.command("list")
def list_adapted(gallery: GalleryOption = None, json: JsonOption = False) -> None:
    """List what the door added, and what it may."""
    from limen.device.gallery.adaptation import adapted_references, read_policy

    with open_gallery(gallery) as opened:
        policy, found = read_policy(opened.store), adapted_references(opened.store)
    if json:
        say_json(
            {
                "policy": policy.model_dump() if policy else None,
                "references": [
                    {
                        "subject": one.subject_id,
                        "taken_at": one.taken_at,
                        "quality": round(one.quality, 3),
                        "score": one.score,
                    }
                    for one in found
                ],
            }
        )
        return
    print_table(
        f"{len(found)} references added by the door",
        ["subject", "taken at", "quality", "likeness to what was enrolled"],
        [[o.subject_id, o.taken_at, f"{o.quality:.2f}", f"{o.score:.3f}"] for o in found],
    )
    if policy is None:
        note("off: nothing is added by itself")
    else:
        note(
            f"on: at most {policy.most} a subject, {policy.every_days:g} days apart, "
            f"{policy.above:g} above the threshold, quality {policy.min_quality:g}"
        )


@adaptation_app.command()
def on(
    most: Annotated[int, typer.Option(min=1, max=10, help="Such references a subject.")] = 3,
    every_days: Annotated[float, typer.Option(min=1, max=365, help="Days between two.")] = 7.0,
    above: Annotated[
        float, typer.Option(min=0.05, max=1, help="How far above the threshold, and all others.")
    ] = 0.1,
    min_quality: Annotated[float, typer.Option(min=0.25, max=1, help="Of the shot.")] = 0.5,
    gallery: GalleryOption = None,
) -> None:
    """Let the door add references of good visits. Only the owner may turn this on."""
    from limen.device.gallery.access import has_owner
    from limen.device.gallery.adaptation import AdaptationPolicy, set_policy
    from limen.errors import ConfigError

    policy = AdaptationPolicy(
        most=most, every_days=every_days, above=above, min_quality=min_quality
    )
    with open_gallery(gallery) as opened:
        if not has_owner(opened.store):
            raise ConfigError("only an owner may turn this on: run 'limen owner set' first")
        authorise(opened, None)
        set_policy(opened.store, policy)
    say("on")
    note("what the door adds: limen subjects adaptation list; to take it back: … undo")


@adaptation_app.command()
def off(gallery: GalleryOption = None) -> None:
    """Let the door add nothing more. What it added stays until it is undone."""
    from limen.device.gallery.adaptation import set_policy

    with open_gallery(gallery) as opened:
        authorise(opened, None)
        set_policy(opened.store, None)
    say("off")


@adaptation_app.command()
def undo(
    subject: Annotated[str | None, typer.Argument(help="The subject's id.")] = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Of everybody.")] = False,
    gallery: GalleryOption = None,
) -> None:
    """Take back what the door added to a subject, or to everybody."""
    from limen.device.gallery.adaptation import undo as undo_adaptation
    from limen.errors import ConfigError

    if (subject is None) != everybody:
        raise ConfigError("name a subject, or --everybody")
    with open_gallery(gallery, need="enrol") as opened:
        count = undo_adaptation(opened.store, subject)
    say(f"{count} references taken back")
    if count:
        note("next: limen calibrate")
