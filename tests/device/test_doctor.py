from __future__ import annotations

from datetime import UTC, datetime, time
from functools import partial
from pathlib import Path

import pytest

from limen.bundle import open_bundle
from limen.device.board_checks import clock, permissions, temperature, throttling
from limen.device.config import DoorConfig
from limen.device.doctor import examine, hours, key, second_factor, signature, tuning
from limen.device.doctor import gallery as examine_gallery
from limen.device.doctor import lock as examine_lock
from limen.device.fakes import fake_picture
from limen.device.findings import Grade
from limen.device.gallery import Gallery
from limen.device.gallery.access import set_owner
from limen.device.gallery.keys import KdfCost, Passphrase
from limen.device.second_factor import SecondFactors
from limen.device.subjects import OpenHours, SubjectDetails
from limen.device.trusted_clock import WallTime
from limen.images import encode_jpeg


def test_door_with_nothing_has_a_remedy_for_everything(tmp_path: Path) -> None:
    config = DoorConfig(gallery=tmp_path / "none.sqlite", source=str(tmp_path / "none"))
    findings = {
        finding.name: finding for finding in examine(config, partial(Gallery.open, config.gallery))
    }
    assert {
        "versions",
        "disk",
        "permissions",
        "clock",
        "lock",
        "signature",
        "model",
        "tuning",
        "gallery",
        "key",
        "camera",
    } <= set(findings)
    for name in ("gallery", "camera"):
        assert findings[name].grade is Grade.FAIL
    bad = [f for f in findings.values() if f.grade in {Grade.FAIL, Grade.WARN}]
    assert all(f.remedy for f in bad)


def test_dark_pictures_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(fake_picture()))
    config = DoorConfig(gallery=tmp_path / "none.sqlite", source=str(tmp_path))
    findings = {
        finding.name: finding for finding in examine(config, partial(Gallery.open, config.gallery))
    }
    assert findings["camera"].grade is Grade.OK
    assert (findings["exposure"].grade, "dark" in findings["exposure"].text) == (Grade.WARN, True)
    skipped = {
        f.name: f for f in examine(config, partial(Gallery.open, config.gallery), camera=False)
    }
    assert skipped["camera"].grade is Grade.SKIPPED


@pytest.mark.parametrize(
    ("text", "grade"), [("48000", Grade.OK), ("84000", Grade.WARN), ("?", Grade.SKIPPED)]
)
def test_temperature(tmp_path: Path, text: str, grade: Grade) -> None:
    (tmp_path / "temp").write_text(text)
    assert temperature(tmp_path / "temp").grade is grade
    assert temperature(tmp_path / "none").grade is Grade.SKIPPED


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("0x0", Grade.OK),
        ("0x50005", Grade.FAIL),
        ("0x50000", Grade.WARN),
        ("0x40000", Grade.WARN),
        ("-", Grade.SKIPPED),
    ],
)
def test_power(tmp_path: Path, text: str, grade: Grade) -> None:
    (tmp_path / "throttled").write_text(text + "\n")
    assert throttling(tmp_path / "throttled").grade is grade


def test_files_that_others_may_read_are_told_of(tmp_path: Path) -> None:
    path = tmp_path / "g.sqlite"
    path.write_bytes(b"")
    path.chmod(0o644)
    found = permissions(DoorConfig(gallery=path))
    assert (found.grade, found.remedy) == (Grade.WARN, f"chmod 600 {path}")


def test_clock_that_is_not_trusted_fails_a_door_with_hours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = OpenHours(days=("mon",), begins=time(7), ends=time(19))
    details = [SubjectDetails(schedule=(office,)), SubjectDetails()]
    trusted = DoorConfig.model_validate({"clock_trust": "always"})
    assert clock(trusted).grade is hours(details, trusted).grade is Grade.OK
    now = datetime(2026, 3, 1, tzinfo=UTC)
    for room in ("doctor", "board_checks"):
        monkeypatch.setattr(
            f"limen.device.{room}.TrustedClock", lambda _: lambda: WallTime(now, False)
        )
    assert clock(DoorConfig()).grade is Grade.WARN
    assert hours(details, DoorConfig()).grade is Grade.FAIL
    assert hours([SubjectDetails()], DoorConfig()).grade is Grade.OK


def test_second_factor_that_nobody_has_fails(tmp_path: Path) -> None:
    path = tmp_path / "factors.json"
    config = DoorConfig.model_validate({"second_factor": {"demand": "always", "file": path}})
    assert second_factor(config).grade is Grade.FAIL
    SecondFactors(path).add(bytes(16), "pin", "1357")
    assert second_factor(config).grade is Grade.OK


def test_lock_service_that_does_not_answer_fails(tmp_path: Path) -> None:
    table = {"kind": "gpio", "socket": tmp_path / "lock.sock", "accept_no_liveness": True}
    found = examine_lock(DoorConfig.model_validate({"lock": table}))
    assert found.grade is Grade.FAIL
    assert "limen-lock" in found.text + found.remedy
    assert examine_lock(DoorConfig()).grade is Grade.WARN


def test_key_that_is_missing_open_to_others_or_whole(tmp_path: Path) -> None:
    config = DoorConfig(gallery=tmp_path / "g.sqlite")
    assert key(config).grade is Grade.SKIPPED
    Gallery.open(config.gallery, model_id="m", create=True).close()
    found = key(config)
    assert (found.grade, "beside the gallery" in found.text) == (Grade.OK, True)
    (path,) = tmp_path.glob("*key*")
    path.chmod(0o644)
    assert (key(config).grade, "chmod 600" in key(config).remedy) == (Grade.FAIL, True)
    path.unlink()
    assert key(config).grade is Grade.FAIL


def test_bundle_that_nobody_vouches_for_and_a_board_that_was_never_timed(tmp_path: Path) -> None:
    bundle, config = open_bundle(), DoorConfig(gallery=tmp_path / "g.sqlite")
    assert signature(bundle, config).grade is Grade.OK
    found = signature(bundle, config.model_copy(update={"bundle": tmp_path / "own.limen"}))
    assert (found.grade, "trusted-keys" in found.remedy) == (Grade.WARN, True)
    assert (tuning(bundle, config).grade, tuning(bundle, config).remedy) == (
        Grade.WARN,
        "limen tune",
    )
    named = config.model_copy(update={"precision": "int8"})
    assert tuning(bundle, named).grade is Grade.SKIPPED


def test_real_lock_whose_gallery_nobody_owns_fails(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    lock = {"kind": "gpio", "pin": 17, "accept_no_liveness": True}
    config = DoorConfig.model_validate({"gallery": path, "lock": lock})
    Gallery.open(path, model_id="m", create=True).close()

    def found() -> dict[str, Grade]:
        told = examine_gallery(open_bundle(), config, lambda: Gallery.open(path))
        return {finding.name: finding.grade for finding in told}

    assert found()["owner"] is Grade.FAIL
    with Gallery.open(path) as gallery:
        set_owner(gallery.store, Passphrase("four words of one's own", KdfCost(64, 1, 1)))
    assert "owner" not in found()
