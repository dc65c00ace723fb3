"""`limen factor`, and what becomes of a PIN when its subject is removed, merged or renamed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from limen.cli.main import app
from limen.device.gallery import Gallery
from limen.device.gallery.access import Right, add_operator, set_owner
from limen.device.gallery.audit import AuditEntry
from limen.device.gallery.keys import KdfCost, Passphrase
from limen.device.second_factor import SecondFactors
from limen.errors import ConfigError, LimenError, SubjectNotFoundError

AT = "2026-11-02T08:00:00+00:00"
CHEAP = KdfCost(64, 1, 1)
OWNER, CLERK, PORTER = "the owner's words", "the clerk's words", "the porter's words"


@pytest.fixture
def door(tmp_path: Path) -> Path:
    """A door's configuration with a gallery of two, whom nobody owns."""
    config = tmp_path / "door.toml"
    config.write_text("[second_factor]\ndemand = 'always'\n")
    with opened(config, create=True) as gallery:
        for number, name in enumerate(("ann", "bob")):
            gallery.enrol(name, np.eye(2, 8, dtype=np.float32)[[number]], [0.9], AT)
    return config


def opened(config: Path, *, create: bool = False) -> Gallery:
    return Gallery.open(config.parent / "gallery.sqlite", model_id="m", create=create)


def run(config: Path, *arguments: object, typed: str = "", **environment: str) -> Result:
    return CliRunner().invoke(
        app,
        [*map(str, arguments), "--config", str(config)],
        input=typed,
        env={"LIMEN_GALLERY": None, "LIMEN_OPERATOR_PASSPHRASE_FILE": None, **environment},
    )


def done(config: Path, *arguments: object, typed: str = "", **environment: str) -> Result:
    result = run(config, *arguments, typed=typed, **environment)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def held(config: Path) -> dict[bytes, list[str]]:
    return SecondFactors(config.parent / "second-factors.json").subjects()


def entries(config: Path) -> list[AuditEntry]:
    with opened(config) as gallery:
        gallery.audit.verify()
        return gallery.audit.entries()


def test_factors_are_set_listed_and_removed(door: Path) -> None:
    done(door, "factor", "set", "ann", typed="1357\n")
    weak = run(door, "factor", "set", "ann", typed="1234\n")
    assert isinstance(weak.exception, ConfigError)
    done(door, "factor", "set", "ann", "--card", typed="04A2\n")
    assert json.loads(done(door, "factor", "list", "--json").stdout) == {"ann": ["pin", "card"]}
    assert "ann" not in (door.parent / "second-factors.json").read_text()
    done(door, "factor", "remove", "ann")
    assert run(door, "factor", "remove", "ann").exit_code == 1
    assert held(door) == {}
    told = [(e.kind, e.detail, e.personal) for e in entries(door) if "factor" in (e.kind or "")]
    ann = {"subject_id": "ann"}
    assert told == [
        ("factor set", {"kind": "pin"}, ann),
        ("factor set", {"kind": "pin"}, ann),
        ("factor not set", {"kind": "pin"}, ann),
        ("factor set", {"kind": "card"}, ann),
        ("factor removed", {"subjects": 1}, ann),
    ]


@pytest.mark.parametrize("verb", ["set", "remove"])
def test_factor_of_somebody_who_is_not_enrolled_is_refused(door: Path, verb: str) -> None:
    refused = run(door, "factor", verb, "nobody", typed="1357\n")
    assert isinstance(refused.exception, SubjectNotFoundError)
    assert not (door.parent / "second-factors.json").exists()


def test_once_there_is_an_owner_a_factor_needs_the_right_to_enrol(door: Path) -> None:
    done(door, "factor", "set", "ann", typed="1357\n")
    before = held(door)
    with opened(door) as gallery:
        set_owner(gallery.store, Passphrase(OWNER, CHEAP))
        add_operator(gallery.store, "carl", Passphrase(CLERK, CHEAP), [Right.ENROL])
        add_operator(gallery.store, "pete", Passphrase(PORTER, CHEAP), [Right.OPEN])

    def signed_in(who: str, passphrase: str) -> dict[str, str]:
        path = door.parent / who
        path.write_text(passphrase + "\n")
        return {"LIMEN_OPERATOR": who, "LIMEN_OPERATOR_PASSPHRASE_FILE": str(path)}

    file = ("--file", door.parent / "second-factors.json")
    for who in ({}, signed_in("pete", PORTER), signed_in("carl", "another's words")):
        for verb in (
            ("set", "ann"),
            ("set", "ann", *file),
            ("remove", "ann"),
            ("remove", "--gone"),
        ):
            refused = run(door, "factor", *verb, typed="2468\n", **who)
            assert isinstance(refused.exception, LimenError), (verb, who, refused.output)
    assert held(door) == before
    assert "factor set" not in [e.kind for e in entries(door)][-3:]
    done(door, "factor", "set", "bob", typed="2468\n", **signed_in("carl", CLERK))
    assert entries(door)[-1].actor == "carl"
    assert sorted(json.loads(done(door, "factor", "list", "--json").stdout)) == ["ann", "bob"]


def test_factor_set_through_another_gallery_is_of_nobody_at_the_door(
    door: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.sqlite"
    with Gallery.open(own, model_id="m", create=True) as gallery:
        gallery.enrol("ann", np.eye(1, 8, dtype=np.float32), [0.9], AT)
    file = tmp_path / "second-factors.json"
    arguments = ["factor", "set", "ann", "--file", str(file), "--gallery", str(own)]
    result = CliRunner().invoke(app, arguments, input="1357\n")
    assert result.exit_code == 0, result.output
    told = done(door, "factor", "list", "--json")
    assert json.loads(told.stdout) == {}
    assert "1 more" in told.stderr


def test_factor_goes_with_its_subject_and_is_not_inherited(door: Path) -> None:
    for name in ("ann", "bob"):
        done(door, "factor", "set", name, typed="1357\n")
    done(door, "subjects", "remove", "ann")
    assert len(held(door)) == 1
    # Through the gallery alone, the file is not known: the verb says what is left to do.
    gallery = door.parent / "gallery.sqlite"
    renamed = ["subjects", "rename", "bob", "ann", "--gallery", str(gallery)]
    assert CliRunner().invoke(app, renamed).exit_code == 0
    assert json.loads(done(door, "factor", "list", "--json").stdout) == {"ann": ["pin"]}
    removed = ["subjects", "remove", "ann", "--gallery", str(gallery)]
    told = CliRunner().invoke(app, removed)
    assert told.exit_code == 0
    assert "limen factor remove --gone" in told.stderr
    with opened(door) as store:
        store.enrol("ann", np.eye(1, 8, dtype=np.float32), [0.9], AT)
    assert json.loads(done(door, "factor", "list", "--json").stdout) == {}
    assert len(held(door)) == 1
    done(door, "factor", "remove", "--gone")
    assert held(door) == {}
    assert run(door, "factor", "remove", "--gone").exit_code == 1


def test_merged_subjects_have_the_factors_of_the_one_kept(door: Path) -> None:
    for name, pin in (("ann", "1357"), ("bob", "2468")):
        done(door, "factor", "set", name, typed=f"{pin}\n")
    done(door, "subjects", "merge", "ann", "bob")
    assert len(held(door)) == 1
    assert json.loads(done(door, "factor", "list", "--json").stdout) == {"ann": ["pin"]}
