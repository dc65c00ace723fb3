"""The verb install-service: a door that starts at boot."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from limen.cli.options import JsonOption, RequiredConfigOption
from limen.cli.output import note, say, say_json


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command("install-service")(install_service)


def install_service(
    config: RequiredConfigOption,
    user: Annotated[str, typer.Option(help="The system user that it runs as.")] = "limen",
    out: Annotated[Path, typer.Option(help="Where units go.")] = Path("/etc/systemd/system"),
    memory_mb: Annotated[int, typer.Option(min=64, help="Most memory that it may take.")] = 400,
    show: Annotated[bool, typer.Option("--print", help="Only print the units.")] = False,
    json: JsonOption = False,
) -> None:
    """Write hardened systemd units for a door, and for its lock's pin in a process of its own.

    They are checked by systemd-analyze where it is installed. Nothing is started: the commands for
    that are printed.
    """
    from limen.device.config import load_config
    from limen.device.service_unit import LOCK_SOCKET, ServicePlan, units
    from limen.device.sources import is_path
    from limen.errors import ConfigError
    from limen.files import write_atomically

    settings = load_config(config)
    gpio = settings.lock.kind == "gpio"
    if gpio and settings.lock.socket != LOCK_SOCKET:
        raise ConfigError(
            f'as a service the lock is a service too: write lock.socket = "{LOCK_SOCKET}" into '
            f"{config}"
        )
    asked = settings.second_factor.demand.value != "never"
    if asked and settings.second_factor.input == "stdin":
        raise ConfigError(
            "a service has no stdin: set second_factor.input to the keypad's /dev/input/by-id/…"
        )
    plan = ServicePlan(
        python=Path(sys.executable).absolute(),
        config=config.absolute(),
        state=settings.gallery.parent,
        user=user,
        network="://" in settings.source and not is_path(settings.source),
        keypad=Path(settings.second_factor.input) if asked else None,
        lock=settings.lock.settings() if gpio else None,
        memory_mb=memory_mb,
    )
    texts = units(plan)
    if show:
        for name, text in texts.items():
            say(f"# {name}\n{text}")
        return
    try:
        for name, text in texts.items():
            with write_atomically(out / name, mode=0o644) as file:
                file.write(text.encode())
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be written ({error.strerror}): run this with sudo, or name another "
            "folder with --out"
        ) from error
    wrong = _verified([out / name for name in texts])
    commands = [
        # A door with a real lock starts only once its gallery has an owner.
        *([f"limen owner set --gallery {settings.gallery}"] if gpio else []),
        f"sudo useradd --system --home-dir {plan.state} --shell /usr/sbin/nologin {user}",
        f"sudo chown -R {user}: {plan.state}",
        "sudo systemctl daemon-reload",
        f"sudo systemctl enable --now {' '.join(sorted(texts))}",
    ]
    if json:
        say_json({"units": [str(out / name) for name in texts], "commands": commands})
    else:
        for name in texts:
            say(f"written: {out / name}")
        note("next:\n  " + "\n  ".join(commands))
    if wrong:
        raise ConfigError(f"systemd-analyze finds fault with the units: {wrong}")


def _verified(paths: list[Path]) -> str:
    """What systemd-analyze says against the units; '' where nothing, or where it is missing."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return ""
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=yes", *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr.strip() if done.returncode else ""
