"""Opening by hand: who may, through the lock process that a recogniser drives, and on record."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from limen.cli.main import app
from limen.device.gallery import Gallery
from limen.device.gallery.access import AccessError, Right, add_operator, set_owner
from limen.device.gallery.keys import KdfCost, Passphrase
from limen.device.lock_process.client import ProcessLock
from limen.device.lock_process.settings import LockSettings
from limen.errors import LimenError, LockError

pytest.importorskip("gpiozero")

WITNESS = Path(__file__).parents[1] / "device" / "lock_process" / "witness.py"
CHEAP = KdfCost(64, 1, 1)
OWNER, OPERATOR, CLERK = "the owner's words", "the operator's words", "the clerk's words"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Path]:
    """A door's configuration; its lock process runs, with a gallery that has an owner beside it."""
    socket = tmp_path / "lock.sock"
    settings = LockSettings(pin=17, max_pulse_s=2.0)
    command = [sys.executable, str(WITNESS), str(tmp_path / "pin.log"), "--socket", str(socket)]
    with subprocess.Popen([*command, settings.to_json()]) as process:
        end_s = time.monotonic() + 30
        while not socket.exists() and time.monotonic() < end_s:
            time.sleep(0.02)
        config = tmp_path / "door.toml"
        config.write_text(
            "unlock_for_s = 0.5\n[lock]\nkind = 'gpio'\npin = 17\nmax_pulse_s = 2.0\n"
            f"accept_no_liveness = true\nsocket = '{socket}'\n"
        )
        with Gallery.open(tmp_path / "gallery.sqlite", model_id="m", create=True) as gallery:
            set_owner(gallery.store, Passphrase(OWNER, CHEAP))
            add_operator(gallery.store, "olga", Passphrase(OPERATOR, CHEAP), [Right.OPEN])
            add_operator(gallery.store, "carl", Passphrase(CLERK, CHEAP), [Right.ENROL])
        yield config
        process.terminate()


def levels(config: Path) -> list[str]:
    return [line.split()[1] for line in (config.parent / "pin.log").read_text().splitlines()]


def run(config: Path, who: str, passphrase: str, *more: str) -> Result:
    secret = config.parent / "passphrase"
    secret.write_text(passphrase + "\n")
    return CliRunner().invoke(
        app,
        ["open", "--config", str(config), *more],
        env={"LIMEN_OPERATOR": who, "LIMEN_OPERATOR_PASSPHRASE_FILE": str(secret)},
    )


def wait_for(config: Path, level: str) -> None:
    end_s = time.monotonic() + 10
    while levels(config)[-1] != level:
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.mark.parametrize(("who", "passphrase"), [("owner", OWNER), ("olga", OPERATOR)])
def test_whoever_may_opens_the_door_of_a_running_recogniser(
    door: Path, who: str, passphrase: str
) -> None:
    with ProcessLock.connect(door.parent / "lock.sock") as recogniser:
        recogniser.lock()  # drives the lock from here on
        result = run(door, who, passphrase, "--reason", "a parcel")
        assert result.exit_code == 0, result.output
        assert "True" in levels(door)
        wait_for(door, "False")
        recogniser.open_for(0.2)  # and still does
    with Gallery.open(door.parent / "gallery.sqlite") as gallery:
        entry = gallery.audit.entries()[-1]
    assert (entry.kind, entry.actor) == ("opening by hand", who)
    assert entry.detail == {"seconds": 0.5, "reason": "a parcel"}


def test_help_says_that_no_names_belong_in_the_reason() -> None:
    told = CliRunner().invoke(app, ["open", "--help"], env={"COLUMNS": "200"})
    assert "Kept for ever" in told.output
    assert "no names" in told.output


@pytest.mark.parametrize(
    ("who", "passphrase"), [("carl", CLERK), ("olga", "not olga's words"), ("nobody", OWNER)]
)
def test_whoever_may_not_does_not(door: Path, who: str, passphrase: str) -> None:
    result = run(door, who, passphrase)
    assert isinstance(result.exception, AccessError)
    assert "True" not in levels(door)


def test_a_lock_that_no_service_owns_is_driven_for_the_pulse_alone(
    door: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    door.write_text(
        "\n".join(line for line in door.read_text().split("\n") if "socket" not in line)
    )
    begun_s = time.monotonic()
    result = run(door, "owner", OWNER)
    assert result.exit_code == 0, (result.output, result.exception)
    assert time.monotonic() - begun_s >= 0.5
    assert "opened for 0.5 s" in result.output


def test_the_locks_own_limit_holds_for_the_owner_too(door: Path) -> None:
    result = run(door, "owner", OWNER, "--seconds", "3")
    assert isinstance(result.exception, LockError)
    assert "at most 2 s" in str(result.exception)
    assert "True" not in levels(door)
    with Gallery.open(door.parent / "gallery.sqlite") as gallery:
        kinds = [entry.kind for entry in gallery.audit.entries()]
    assert kinds[-2:] == ["opening by hand", "opening by hand refused"]


def test_without_an_owner_nobody_opens_by_hand(door: Path) -> None:
    for path in door.parent.glob("gallery.sqlite*"):
        path.unlink()
    Gallery.open(door.parent / "gallery.sqlite", model_id="m", create=True).close()
    result = run(door, "owner", OWNER)
    assert isinstance(result.exception, AccessError)
    assert "limen owner set" in str(result.exception)
    assert "True" not in levels(door)


def test_a_simulated_lock_is_nothing_to_open(tmp_path: Path) -> None:
    config = tmp_path / "door.toml"
    config.write_text("votes = 3\n")
    result = run(config, "owner", OWNER)
    assert isinstance(result.exception, LimenError)
    assert "simulated" in str(result.exception)
