"""The verbs over the gallery, as whoever keeps a door uses them in its life."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from limen.cli.main import app
from limen.device.gallery.keys import KdfCost, Passphrase
from limen.errors import LimenError
from limen.images import encode_jpeg, read_picture

data = pytest.importorskip("skimage.data", reason="scikit-image carries a picture of a person")
matplotlib = pytest.importorskip("matplotlib", reason="matplotlib carries another")

SECRET = "correct horse battery"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of two people, and a CSV."""
    folder = tmp_path_factory.mktemp("people")
    astronaut = data.astronaut()[:320, 60:400]
    hopper = read_picture(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    hopper = np.ascontiguousarray(hopper[:330, 110:430])
    for name, picture in (("eileen", astronaut), ("grace", hopper)):
        (folder / name).mkdir()
        for number, gain in enumerate((1.0, 0.7)):
            shot = np.clip(picture * gain, 0, 255).astype(np.uint8)
            (folder / name / f"{number}.jpg").write_bytes(encode_jpeg(shot))
    (folder / "people.csv").write_text(
        "subject,picture,display_name\neileen,eileen/0.jpg,Eileen Collins\ngrace,grace/0.jpg,\n"
    )
    return folder


class Door:
    """A gallery with the command line before it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self._patch = monkeypatch
        self._runner = CliRunner()

    def __call__(self, *arguments: object, **environment: str) -> Result:
        return self._runner.invoke(
            app, [str(a) for a in arguments], env={"LIMEN_GALLERY": str(self.path), **environment}
        )

    def done(self, *arguments: object, **environment: str) -> str:
        result = self(*arguments, **environment)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def json(self, *arguments: object) -> Any:
        return json.loads(self.done(*arguments, "--json"))

    def refused(self, *arguments: object, **environment: str) -> str:
        result = self(*arguments, **environment)
        assert result.exit_code != 0, result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            assert isinstance(result.exception, LimenError), result.exception
            return str(result.exception)
        return result.stderr


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    cheap = KdfCost(memory_kib=64, iterations=1, lanes=1)
    monkeypatch.setattr(Passphrase.__init__, "__defaults__", (cheap,))
    return Door(tmp_path / "gallery.db", monkeypatch)


def secret(tmp_path: Path, text: str = SECRET, name: str = "secret") -> Path:
    (tmp_path / name).write_text(text + "\n")
    return tmp_path / name


def test_first_enrolment_makes_the_key_and_says_so_once(door: Door, people: Path) -> None:
    first = door("enrol", "eileen", people / "eileen" / "0.jpg")
    assert first.exit_code == 0
    assert "keep a copy" in first.stderr
    second = door("enrol", "eileen", people / "eileen" / "1.jpg")
    assert "keep a copy" not in second.stderr
    assert door.path.with_name("gallery.db.key").stat().st_mode & 0o777 == 0o600


def test_enrolment_says_what_it_would_change_and_keeps_nothing(door: Door, people: Path) -> None:
    told = door.json("enrol", "eileen", people / "eileen" / "0.jpg", "--dry-run")
    assert told["enrolled"] is False
    assert len(told["accepted"]) == 1
    assert told["fpir_before"] == 0
    assert told["fpir_after_upper_bound"] > 0
    assert door.json("subjects")["subjects"] == []


def test_the_same_person_under_another_id_is_asked_about(door: Door, people: Path) -> None:
    door.done("enrol", "eileen", people / "eileen" / "0.jpg")
    again = ("enrol", "collins", people / "eileen" / "1.jpg")
    assert "seems to be the same person" in door.refused(*again)
    assert [s["subject"] for s in door.json("subjects")["subjects"]] == ["eileen"]
    door.done(*again, "--lookalike")
    door.done("subjects", "merge", "eileen", "collins")
    (left,) = door.json("subjects")["subjects"]
    assert (left["subject"], left["references"]) == ("eileen", 2)


def test_shots_of_two_people_and_the_same_shot_again_are_refused(door: Door, people: Path) -> None:
    mixed = (people / "eileen" / "0.jpg", people / "grace" / "0.jpg")
    assert "two people" in door.refused("enrol", "eileen", *mixed)
    door.done("enrol", "eileen", mixed[0])
    assert "same picture" in door.refused("enrol", "eileen", mixed[0])


def test_records_are_written_shown_and_erased(door: Door, people: Path, tmp_path: Path) -> None:
    door.done("enrol", "eileen", people / "eileen" / "0.jpg", "--keep-crops")
    door.done(
        *("subjects", "describe", "eileen", "--name", "Eileen Collins", "--group", "crew"),
        *("--hours", "mon,tue 08:00-18:00", "--consent", "opening this door"),
    )
    door.done("subjects", "expire", "eileen", "2126-01-01")
    shown = door.json("subjects", "show", "eileen")
    assert (shown["display_name"], shown["groups"], shown["crops"]) == (
        "Eileen Collins",
        ["crew"],
        1,
    )
    assert shown["consent"]["to"] == "opening this door"
    assert shown["schedule"][0]["days"] == ["mon", "tue"]
    assert shown["expires_at"].startswith("21")
    assert "nobody is enrolled" in door.refused(
        "subjects", "describe", "eileen", "nobody", "--name", "Both"
    )
    assert door.json("subjects", "show", "eileen")["display_name"] == "Eileen Collins"
    assert "expected 'mon,tue" in door.refused(
        "subjects", "describe", "eileen", "--hours", "always"
    )
    assert len(door.json("subjects", "list", "--group", "crew")["subjects"]) == 1
    assert len(door.json("subjects", "list", "--group", "other")["subjects"]) == 0
    door.done("subjects", "rename", "eileen", "collins")
    door.done("subjects", "not", "collins", people / "grace" / "0.jpg")
    assert door.json("subjects", "show", "collins")["negatives"] == 1
    door.done("subjects", "remove", "collins", "--receipt", tmp_path / "receipt.json")
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    assert (receipt["references"], receipt["crops"], receipt["negatives"]) == (1, 1, 1)
    assert "nobody is enrolled" in door.refused("subjects", "remove", "collins")


def test_expired_subject_is_erased_by_the_next_verb(door: Door, people: Path) -> None:
    door.done("enrol", "eileen", people / "eileen" / "0.jpg")
    door.done("subjects", "expire", "eileen", "2020-01-01")
    assert door.json("subjects")["subjects"] == []


def test_people_come_in_bulk_with_a_report(door: Door, people: Path, tmp_path: Path) -> None:
    report = door.json("subjects", "import", people / "people.csv")
    assert [(row["subject"], row["enrolled"]) for row in report["subjects"]] == [
        ("eileen", 1),
        ("grace", 1),
    ]
    assert door.json("subjects", "show", "eileen")["display_name"] == "Eileen Collins"
    report = door.json("subjects", "import", people)
    assert [row["enrolled"] for row in report["subjects"]] == [1, 1]
    assert all("same picture" in row["refused"][0]["reason"] for row in report["subjects"])
    (tmp_path / "bad.csv").write_text("subject,picture\neve,nowhere.jpg\n")
    assert "line 2" in door.refused("subjects", "import", tmp_path / "bad.csv")


def test_subjects_move_to_another_door(
    door: Door, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.done("enrol", "eileen", people / "eileen" / "0.jpg")
    moved, file = tmp_path / "moved", secret(tmp_path)
    door.done("subjects", "export", "eileen", "--out", moved, "--passphrase-file", file)
    other = Door(tmp_path / "other" / "gallery.db", monkeypatch)
    take = ("subjects", "import", moved, "--passphrase-file", file)
    unknown = other.refused(*take)
    fingerprint = door.json("gallery", "show")["fingerprint"]
    assert fingerprint in unknown
    assert "not by" in other.refused(*take, "--signer", "0000-0000-0000-0000")
    assert "passphrase" in other.refused(
        *take[:-1], secret(tmp_path, "wrong horse battery", "wrong"), "--signer", fingerprint
    )
    other.done(*take, "--signer", fingerprint)
    assert [s["subject"] for s in other.json("subjects")["subjects"]] == ["eileen"]
    assert "enrolled here already" in other.refused(*take)


def test_file_is_checked_backed_up_restored_and_rekeyed(
    door: Door, people: Path, tmp_path: Path
) -> None:
    door.done("enrol", "eileen", people / "eileen" / "0.jpg")
    copy = tmp_path / "copy.db"
    door.done("gallery", "backup", copy)
    assert str(copy) in door.json("gallery", "show")["backups"][0]
    door.path.unlink()
    door.done("gallery", "restore", copy)
    assert door.json("gallery", "check")["references"] == 1
    door.done("gallery", "rekey")
    door.done("gallery", "rekey", "--to-passphrase-file", secret(tmp_path))
    assert "LIMEN_PASSPHRASE_FILE" in door.refused("subjects")
    named = {"LIMEN_PASSPHRASE_FILE": str(secret(tmp_path))}
    assert "eileen" in door.done("subjects", **named)
    assert "one of" in door.refused("gallery", "rekey", "--to-passphrase", "--to-key", "k", **named)
    door.done("gallery", "rekey", "--to-key", tmp_path / "usb" / "key", **named)
    assert "eileen" in door.done("subjects", LIMEN_KEY=str(tmp_path / "usb" / "key"))


def test_audit_log_is_listed_verified_and_pruned(door: Door, people: Path) -> None:
    door.done("enrol", "eileen", people / "eileen" / "0.jpg")
    assert [e["kind"] for e in door.json("audit", "list")] == ["created", "enrolled"]
    head = door.json("audit", "verify")["head"]
    door.done("subjects", "remove", "eileen")
    door.done("audit", "verify", "--head", head)
    edited = head[:-1] + ("0" if head[-1] != "0" else "1")
    found = door("audit", "verify", "--head", edited)
    assert found.exit_code == 1
    assert "not intact" in found.stdout
    assert "NUMBER:HASH" in door.refused("audit", "verify", "--head", "2")
    assert "0 entries" in door.done("audit", "prune", "--keep", "enrolled=30d")
    assert "1 entries" in door.done("audit", "prune", "--keep", "enrolled=0d")
    door.done("audit", "verify", "--head", head)


def test_once_there_is_an_owner_rights_are_asked_for(
    door: Door, people: Path, tmp_path: Path
) -> None:
    door.done("enrol", "eileen", people / "eileen" / "0.jpg")
    assert door.json("owner", "list") == []
    door.done("owner", "set", "--passphrase-file", secret(tmp_path))
    assert "LIMEN_OPERATOR_PASSPHRASE_FILE" in door.refused("subjects", "remove", "eileen")
    wrong = {"LIMEN_OPERATOR_PASSPHRASE_FILE": str(secret(tmp_path, "not the owner's", "wrong"))}
    owner = {"LIMEN_OPERATOR_PASSPHRASE_FILE": str(secret(tmp_path))}
    for verb in (
        ("subjects", "remove", "eileen"),
        ("enrol", "grace", people / "grace" / "0.jpg"),
        ("calibrate",),
        ("subjects", "export", "eileen", "--out", tmp_path / "x"),
        ("gallery", "rekey"),
        ("owner", "add", "desk", "--right", "enrol"),
        ("audit", "prune", "--keep", "enrolled=0d"),
    ):
        assert "wrong" in door.refused(*verb, **wrong)
    desk_file = secret(tmp_path, "the desk's own words", "desk")
    door.done(
        *("owner", "add", "desk", "--right", "enrol", "--passphrase-file", desk_file), **owner
    )
    desk = {"LIMEN_OPERATOR": "desk", "LIMEN_OPERATOR_PASSPHRASE_FILE": str(desk_file)}
    door.done("enrol", "grace", people / "grace" / "0.jpg", **desk)
    assert "may not delete" in door.refused("subjects", "remove", "grace", **desk)
    assert "may not manage" in door.refused("owner", "remove", "desk", **desk)
    assert [e["actor"] for e in door.json("audit", "list")][-1] == "desk"
    assert len(door.json("subjects")["subjects"]) == 2  # reading needs no right
    door.done("owner", "remove", "desk", **owner)
    assert "wrong" in door.refused("enrol", "grace", people / "grace" / "1.jpg", **desk)


def test_lost_passphrase_is_a_way_back_that_erases(
    door: Door, people: Path, tmp_path: Path
) -> None:
    door.done("enrol", "eileen", people / "eileen" / "0.jpg")
    door.done("owner", "set", "--passphrase-file", secret(tmp_path))
    assert "--erase-everything" in door.refused("owner", "reset")
    assert len(door.json("subjects")["subjects"]) == 1
    door.done("owner", "reset", "--erase-everything")
    assert list(tmp_path.glob("gallery.db*")) == []
    door.done("enrol", "grace", people / "grace" / "0.jpg")
    assert [s["subject"] for s in door.json("subjects")["subjects"]] == ["grace"]


def test_only_the_owner_lets_the_door_add_references(
    door: Door, people: Path, tmp_path: Path
) -> None:
    door.done("enrol", "eileen", people / "eileen" / "0.jpg")
    assert door.json("subjects", "adaptation", "list") == {"policy": None, "references": []}
    assert "limen owner set" in door.refused("subjects", "adaptation", "on")
    door.done("owner", "set", "--passphrase-file", secret(tmp_path))
    desk_file = secret(tmp_path, "the desk's own words", "desk")
    owner = {"LIMEN_OPERATOR_PASSPHRASE_FILE": str(secret(tmp_path))}
    desk = {"LIMEN_OPERATOR": "desk", "LIMEN_OPERATOR_PASSPHRASE_FILE": str(desk_file)}
    door.done(
        *("owner", "add", "desk", "--right", "enrol", "--passphrase-file", desk_file), **owner
    )
    assert "may not" in door.refused("subjects", "adaptation", "on", **desk)
    door.done("subjects", "adaptation", "on", "--most", 2, **owner)
    assert door.json("subjects", "adaptation", "list")["policy"]["most"] == 2
    assert "name a subject" in door.refused("subjects", "adaptation", "undo", **desk)
    assert "0 references" in door.done("subjects", "adaptation", "undo", "eileen", **desk)
    door.done("subjects", "adaptation", "off", **owner)
    kinds = [entry["kind"] for entry in door.json("audit", "list")]
    assert kinds[-2:] == ["adaptation on", "adaptation off"]
