"""The verb open: the door, by hand, for whoever has the right."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from limen.cli.options import RequiredConfigOption, authorise, open_gallery
from limen.cli.output import note, say


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command("open")(open_by_hand)


def open_by_hand(
    config: RequiredConfigOption,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, max=30, help="How long; unlock_for_s of the file.")
    ] = None,
    reason: Annotated[
        str,
        typer.Option(
            help="Why, for the audit log. Kept for ever, unless pruned, whoever is erased: no names."
        ),
    ] = "",
) -> None:
    """Open the door by hand, through its lock process and within that one's limits.

    For the owner, or an operator with the right to open. On record before the door opens.
    """
    from limen.device.config import load_config
    from limen.device.gallery import access
    from limen.device.lock_process.client import ProcessLock
    from limen.errors import ConfigError, LockError

    settings = load_config(config)
    lock = settings.lock
    if lock.kind != "gpio":
        raise ConfigError(
            f"{config}: the lock is simulated, so there is nothing to open: lock.kind"
        )
    if len(reason) > 200 or not reason.isprintable():
        raise ConfigError("--reason: expected one line of at most 200 characters")
    pulse_s = settings.unlock_for_s if seconds is None else seconds
    with open_gallery(settings.gallery, key=settings.key) as opened:
        if not access.has_owner(opened.store):
            raise access.AccessError(
                f"{opened.path}: nobody owns this gallery, so nobody may open by hand: "
                "run 'limen owner set' first"
            )
        authorise(opened, access.Right.OPEN)
        detail: dict[str, object] = {"seconds": pulse_s, **({"reason": reason} if reason else {})}
        opened.audit.note("opening by hand", detail)
        try:
            if lock.socket is not None:
                with ProcessLock.connect(lock.socket) as connected:
                    connected.open_by_hand(pulse_s)
            else:
                # No service owns the pin: a lock process of our own does, as long as the pulse lasts.
                with ProcessLock.start(lock.settings()) as own:
                    own.open_by_hand(pulse_s)
                    note(f"open for {pulse_s:g} s")
                    while not own.state().locked:  # who drives nothing is told nothing unasked
                        time.sleep(0.05)
        except LockError as error:
            opened.audit.note("opening by hand refused", {"seconds": pulse_s})
            raise LockError(
                f"{error}; where a door is running with a lock of its own, let the lock be a "
                "service ('limen install-service') that both may ask"
                if lock.socket is None
                else str(error)
            ) from error
    say(f"opened for {pulse_s:g} s")
