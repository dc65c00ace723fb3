"""What is sealed, what opens it, and what a stolen file does not tell."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from pathlib import Path

import gallery_workload as workload
import numpy as np
import pytest

from limen.device.fakes import fake_operating_point
from limen.device.gallery import Gallery
from limen.device.gallery import keys as keys_module
from limen.device.gallery.keys import (
    GalleryKeyError,
    KdfCost,
    KeyFile,
    Passphrase,
    checked_passphrase,
    credential_key,
)
from limen.device.gallery.sealing import DamagedRecordError, Sealer, context
from limen.device.gallery.signing import verified
from limen.device.gallery.vault import WrongKindOfKeyError
from limen.device.subjects import SubjectDetails
from limen.errors import GalleryError

MODEL_ID, AT = workload.MODEL_ID, workload.AT
CHEAP = KdfCost(memory_kib=64, iterations=1, lanes=1)
SECRET = "correct horse battery"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


def filled(path: Path, key: KeyFile | Passphrase | None = None) -> None:
    with Gallery.open(path, model_id=MODEL_ID, create=True, key=key) as gallery:
        for name in ("Rumpelstiltskin", "ann"):
            gallery.enrol(
                name,
                workload.references(name),
                [0.5, 0.5],
                AT,
                details=SubjectDetails(display_name=f"{name} Miller", notes="has a red coat"),
                crops=[b"picture one", b"picture two"],
            )
        gallery.add_negatives("ann", workload.references("not ann"), AT)
        gallery.keep_operating_point(fake_operating_point(0.6, MODEL_ID))


def bytes_beside(path: Path) -> bytes:
    return b"".join(p.read_bytes() for p in path.parent.iterdir() if p.suffix != ".key")


def test_key_file_is_made_at_first_use_for_its_owner_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        with Gallery.open(path, model_id=MODEL_ID, create=True) as gallery:
            assert gallery.made_key == path.with_name("gallery.db.key")
    finally:
        os.umask(old)
    key = path.with_name("gallery.db.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(bytes.fromhex(key.read_text())) == 32
    with Gallery.open(path) as gallery:
        assert gallery.made_key is None


def test_file_tells_neither_names_nor_templates_nor_thresholds(path: Path) -> None:
    filled(path)
    content = bytes_beside(path)
    for name in ("Rumpelstiltskin", "ann"):
        for row in workload.references(name):
            assert row.tobytes()[:16] not in content
    for word in (b"Rumpel", b"Miller", b"red coat", b"picture one", b"threshold", b"0.6"):
        assert word not in content


def test_another_key_or_none_is_refused_before_any_work(path: Path, tmp_path: Path) -> None:
    filled(path)
    before = path.read_bytes()
    key = path.with_name("gallery.db.key")
    other = tmp_path / "other"
    other.write_text("ab" * 32)
    other.chmod(0o600)
    with pytest.raises(GalleryKeyError, match="not this gallery's"):
        Gallery.open(path, key=KeyFile(other))
    with pytest.raises(WrongKindOfKeyError, match="--key"):
        Gallery.open(path, key=Passphrase(SECRET, CHEAP))
    key.rename(tmp_path / "moved")
    with pytest.raises(GalleryKeyError, match="missing"):
        Gallery.open(path, model_id=MODEL_ID, create=True)
    assert not key.exists()  # no new key for a gallery that has one
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        ("ab" * 32, 0o644, "open to others"),
        ("ab" * 32, 0o660, "open to others"),
        ("ab" * 31, 0o600, "64 hexadecimal"),
        ("xy" * 32, 0o600, "64 hexadecimal"),
        ("", 0o600, "64 hexadecimal"),
        ("ab" * 4096, 0o600, "64 hexadecimal"),
    ],
)
def test_key_file_that_is_none_or_not_private_is_refused(
    path: Path, content: str, mode: int, sentence: str
) -> None:
    key = path.with_name("gallery.db.key")
    key.write_text(content)
    key.chmod(mode)
    with pytest.raises(GalleryKeyError, match=sentence):
        Gallery.open(path, model_id=MODEL_ID, create=True)


def test_folder_in_the_place_of_a_key_is_refused(path: Path) -> None:
    path.with_name("gallery.db.key").mkdir()
    with pytest.raises(GalleryKeyError, match=r"cannot be read|no regular file"):
        Gallery.open(path, model_id=MODEL_ID, create=True)


def test_systemd_hands_over_the_key_as_a_credential(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert credential_key() is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credential_key() is None
    credential = tmp_path / "limen-gallery-key"
    credential.write_text("cd" * 32 + "\n")
    credential.chmod(0o400)
    filled(path, credential_key())
    assert not path.with_name("gallery.db.key").exists()
    with Gallery.open(path, key=credential_key()) as gallery:
        assert len(gallery.subjects()) == 2


def test_passphrase_opens_a_gallery_and_another_does_not(path: Path) -> None:
    filled(path, Passphrase(SECRET, CHEAP))
    with Gallery.open(path, key=Passphrase(SECRET)) as gallery:  # the cost is the file's own
        assert len(gallery.references().embeddings) == 4
    with pytest.raises(GalleryKeyError, match="passphrase is not this gallery's"):
        Gallery.open(path, key=Passphrase(SECRET + "s"))
    with pytest.raises(WrongKindOfKeyError, match="LIMEN_PASSPHRASE_FILE"):
        Gallery.open(path)
    assert SECRET not in repr(Passphrase(SECRET))
    with pytest.raises(GalleryKeyError, match="at least"):
        checked_passphrase("short")


def test_default_cost_of_a_passphrase_is_rfc_9106s() -> None:
    assert KdfCost() == KdfCost(memory_kib=64 * 1024, iterations=3, lanes=4)


@pytest.mark.parametrize(
    "cost", ["[4294967296, 3, 4]", "[65536, 100000, 4]", "[]", "{", '["a",1,1]']
)
def test_cost_that_would_exhaust_a_board_is_refused(path: Path, cost: str) -> None:
    filled(path, Passphrase(SECRET, CHEAP))
    with sqlite3.connect(path) as other:
        other.execute("UPDATE keyring SET cost = ?", (cost,))
    other.close()
    with pytest.raises(GalleryKeyError, match="parameters"):
        Gallery.open(path, key=Passphrase(SECRET))


def test_record_moved_to_another_subject_does_not_open(path: Path) -> None:
    filled(path)
    other = sqlite3.connect(path)
    first, second = (
        row[0] for row in other.execute("SELECT min(id) FROM reference GROUP BY subject").fetchall()
    )
    (sealed,) = other.execute("SELECT sealed FROM reference WHERE id = ?", (first,)).fetchone()
    other.execute("UPDATE reference SET sealed = ? WHERE id = ?", (sealed, second))
    other.commit()
    other.close()
    with Gallery.open(path) as gallery, pytest.raises(DamagedRecordError, match="not in its place"):
        gallery.references()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE door SET model_id = 'another model'",
        "UPDATE reference SET sealed = (SELECT sealed FROM negative LIMIT 1)",
        "UPDATE reference SET subject = (SELECT max(id) FROM subject)",
        "UPDATE subject SET sealed = (SELECT sealed FROM subject ORDER BY id LIMIT 1)",
        "UPDATE operating_point SET sealed = (SELECT sealed FROM subject LIMIT 1)",
        "UPDATE reference SET sealed_crop = sealed",
        "UPDATE reference SET sealed = substr(sealed, 1, 20)",
        "UPDATE reference SET sealed = x''",
    ],
)
def test_every_change_behind_the_keys_back_is_found(path: Path, change: str) -> None:
    filled(path)
    other = sqlite3.connect(path)
    other.execute(change)
    other.commit()
    other.close()
    with Gallery.open(path) as gallery, pytest.raises(GalleryError):
        gallery.check()


def test_nonces_differ_for_equal_contents() -> None:
    sealer = Sealer(bytes(32))
    sealed = {sealer.seal(b"the same", context("a")) for _ in range(100)}
    assert len({record[:12] for record in sealed}) == 100
    assert all(sealer.open(record, context("a")) == b"the same" for record in sealed)


def test_contexts_cannot_be_confused() -> None:
    assert (
        len({context("a", "bc"), context("ab", "c"), context("a", "b", "c"), context("abc")}) == 4
    )


def test_rekeying_seals_everything_again(path: Path) -> None:
    filled(path)
    key = path.with_name("gallery.db.key")
    old_key = key.read_text()
    old = sqlite3.connect(path)
    sealed = [row[0] for row in old.execute("SELECT sealed FROM reference")]
    old.close()
    with Gallery.open(path) as gallery:
        fingerprint, entries = gallery.fingerprint, len(gallery.audit.entries())
        assert gallery.rekey()
        assert len(gallery.references().embeddings) == 4
    assert key.read_text() != old_key
    assert all(record not in bytes_beside(path) for record in sealed)
    with Gallery.open(path) as gallery:
        gallery.check()
        assert [s.subject_id for s in gallery.subjects()] == ["Rumpelstiltskin", "ann"]
        assert len(gallery.references().negatives) == 2
        assert gallery.operating_point() == fake_operating_point(0.6, MODEL_ID)
        assert gallery.fingerprint == fingerprint
        assert gallery.audit.verify() == entries + 1
        assert any(entry.personal == {"subject_id": "ann"} for entry in gallery.audit.entries())
    key.write_text(old_key)
    with pytest.raises(GalleryKeyError, match="not this gallery's"):
        Gallery.open(path)


def test_rekeying_moves_between_a_file_and_a_passphrase(path: Path, tmp_path: Path) -> None:
    filled(path)
    with Gallery.open(path) as gallery:
        gallery.rekey(Passphrase(SECRET, CHEAP))
    with Gallery.open(path, key=Passphrase(SECRET)) as gallery:
        gallery.rekey(KeyFile(tmp_path / "elsewhere" / "key"))
    with Gallery.open(path, key=KeyFile(tmp_path / "elsewhere" / "key")) as gallery:
        gallery.check()


@pytest.mark.parametrize("committed", [False, True])
def test_rekeying_cut_short_is_caught_up_with(
    path: Path, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the commit the old key counts; after it the new one, though the file was not renamed."""
    filled(path)
    with Gallery.open(path) as gallery:
        target = "put_next_key_in_force" if committed else "_seal_again"

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(f"limen.device.gallery.rotation.{target}", die)
            with pytest.raises(KeyboardInterrupt):
                gallery.rekey()
    waiting = path.with_name("gallery.db.key.next")
    assert waiting.exists()
    with Gallery.open(path) as gallery:
        gallery.check()
        assert waiting.exists() is not committed
        gallery.rekey()  # what was left does not stand in the way
    with Gallery.open(path) as gallery:
        gallery.check()
    assert not waiting.exists()


def test_old_gallery_in_the_clear_is_sealed_when_it_is_opened(path: Path) -> None:
    workload.write_old_gallery(path)
    assert b"zoe" in path.read_bytes()
    with Gallery.open(path) as gallery:
        assert gallery.made_key is not None
        content = bytes_beside(path)  # purged while it is open, not only when it is closed
        gallery.check()
        references = gallery.references()
        assert references.subject_ids == workload.OLD_SUBJECTS
        np.testing.assert_array_equal(
            references.embeddings,
            np.concatenate([workload.references(name) for name in workload.OLD_SUBJECTS]),
        )
        assert gallery.operating_point() == fake_operating_point(0.6, MODEL_ID)
        assert not gallery.calibration_is_stale()
        assert {s.enrolled_at for s in gallery.subjects()} == {AT}
    for name in workload.OLD_SUBJECTS:
        assert f"{name}".encode() not in content
        assert workload.references(name)[0].tobytes()[:16] not in content


def test_gallery_with_a_trigger_of_somebody_elses_is_refused(path: Path) -> None:
    filled(path)
    other = sqlite3.connect(path)
    other.execute("CREATE TRIGGER evil AFTER INSERT ON reference BEGIN DELETE FROM subject; END")
    other.commit()
    other.close()
    with pytest.raises(GalleryError, match="damaged"):
        Gallery.open(path)


def test_receipt_is_signed_and_an_edited_one_is_found(path: Path) -> None:
    filled(path)
    with Gallery.open(path) as gallery:
        gallery.back_up(path.with_name("copy.db"))
        erasure = gallery.remove("Rumpelstiltskin", "asked for")
        receipt = json.loads(json.dumps(erasure.receipt))
        assert verified(receipt) == gallery.store.vault.public_key()
    assert erasure.purged
    assert (receipt["references"], receipt["crops"]) == (2, 2)
    assert receipt["audit_key_destroyed"] is True
    assert "Rumpel" not in json.dumps(receipt)
    assert [b["path"] for b in receipt["backups_that_may_hold_copies"]] == list(erasure.backups)
    assert str(path.with_name("copy.db")) in erasure.backups
    for field, value in (("references", 3), ("signature", "AAAA"), ("signed_by", "00" * 32)):
        with pytest.raises(GalleryError, match="edited"):
            verified({**receipt, field: value})


def test_the_bytes_of_a_removed_subject_are_gone_from_file_and_log(path: Path) -> None:
    filled(path)
    with Gallery.open(path) as gallery:
        other = sqlite3.connect(path)
        sealed = [row[0] for row in other.execute("SELECT sealed FROM reference")]
        crops = [row[0] for row in other.execute("SELECT sealed_crop FROM reference")]
        keys = [row[0] for row in other.execute("SELECT sealed_audit_key FROM subject")]
        other.close()
        gone = [*sealed[:2], *crops[:2], keys[0]]
        gallery.enrol("bob", workload.references("bob"), [0.5, 0.5], AT)  # something in the log
        before = bytes_beside(path)
        assert all(record in before for record in gone)
        assert gallery.remove("Rumpelstiltskin").purged
        after = bytes_beside(path)
        assert not any(record in after for record in gone)
        assert all(record in after for record in [*sealed[2:], *crops[2:], keys[1]])


def test_deletion_beside_a_long_reader_is_finished_by_the_next_who_opens(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limen.device.gallery.file.BUSY_TIMEOUT_MS", 50)
    filled(path)
    reader = sqlite3.connect(path)
    with Gallery.open(path) as gallery:
        reader.execute("BEGIN")
        (sealed,) = reader.execute("SELECT sealed FROM reference LIMIT 1").fetchone()
        erasure = gallery.remove("Rumpelstiltskin")
        assert erasure.purged is False
        assert erasure.receipt["bytes_overwritten"] is False
        assert sealed in bytes_beside(path)
        reader.close()
    with Gallery.open(path):
        assert sealed not in bytes_beside(path)


def test_backup_is_made_beside_readers_and_opens_with_the_key(path: Path, tmp_path: Path) -> None:
    filled(path)
    copy = tmp_path / "backups" / "one.db"
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM reference").fetchone()
    with Gallery.open(path) as gallery:
        gallery.back_up(copy)
        with pytest.raises(GalleryError, match="there already"):
            gallery.back_up(copy)
        assert [backup.path for backup in gallery.backups()] == [str(copy)]
    reader.close()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [p.name for p in copy.parent.iterdir()] == ["one.db"]
    with Gallery.open(copy, key=keys_module.default_key(path)) as backup:
        backup.check()
        assert len(backup.subjects()) == 2


def test_restoring_checks_the_backup_and_replaces_nothing(path: Path, tmp_path: Path) -> None:
    from limen.device.gallery.backup import restore

    filled(path)
    copy = tmp_path / "copy.db"
    with Gallery.open(path) as gallery:
        gallery.back_up(copy)
    with pytest.raises(GalleryError, match="already"):
        restore(copy, path, None)
    path.unlink()
    broken = tmp_path / "broken.db"
    content = bytearray(copy.read_bytes())
    with sqlite3.connect(copy) as other:
        (sealed,) = other.execute("SELECT sealed FROM reference LIMIT 1").fetchone()
    other.close()
    at = content.index(sealed[:40]) + 20
    content[at] ^= 1
    broken.write_bytes(content)
    with pytest.raises(GalleryError):
        restore(broken, path, None)
    assert not path.exists()
    with pytest.raises(GalleryError, match="expected a backup"):
        restore(tmp_path / "nowhere", path, None)
    restore(copy, path, None)
    with Gallery.open(path) as gallery:
        assert [s.subject_id for s in gallery.subjects()] == ["Rumpelstiltskin", "ann"]
        assert gallery.audit.entries()[-1].kind == "restored"
    assert not list(tmp_path.glob(".restore*"))


def test_reader_sees_the_gallery_as_it_was_while_somebody_is_enrolled(path: Path) -> None:
    filled(path)
    with Gallery.open(path) as door, Gallery.open(path) as desk:
        with desk.store.writing(references=True) as execute:
            execute("DELETE FROM subject")
            assert len(door.subjects()) == 2
            assert len(door.references().embeddings) == 4
        assert door.subjects() == []
