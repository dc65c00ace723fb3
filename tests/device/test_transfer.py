"""Subjects that move to another door: signed, encrypted, all or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gallery_workload as workload
import numpy as np
import pytest

from limen.device.gallery import Gallery
from limen.device.gallery.keys import GalleryKeyError, KdfCost, Passphrase
from limen.device.gallery.transfer import (
    MAGIC,
    export_subjects,
    import_subjects,
    is_trusted,
    read_export,
)
from limen.device.subjects import SubjectDetails
from limen.errors import GalleryError, ModelMismatchError, SubjectNotFoundError

MODEL_ID, AT = workload.MODEL_ID, workload.AT
SECRET = Passphrase("correct horse battery", KdfCost(memory_kib=64, iterations=1, lanes=1))


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "front.db", model_id=MODEL_ID, create=True) as gallery:
        for name in ("ann", "bob", "cid"):
            gallery.enrol(
                name,
                workload.references(name),
                [0.5, 0.9],
                AT,
                details=SubjectDetails(display_name=f"{name} Miller"),
                crops=[b"a picture", b"another"],
            )
        gallery.add_negatives("ann", workload.references("not ann"), AT)
        yield gallery


@pytest.fixture
def back(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "back.db", model_id=MODEL_ID, create=True) as gallery:
        yield gallery


@pytest.fixture
def file(front: Gallery, tmp_path: Path) -> Path:
    export_subjects(front.store, ["ann", "bob", "ann"], SECRET, tmp_path / "moved")
    return tmp_path / "moved"


def test_chosen_subjects_arrive_as_they_were(front: Gallery, back: Gallery, file: Path) -> None:
    sealed = read_export(file)
    assert sealed.signer == front.fingerprint
    assert import_subjects(back.store, sealed, SECRET) == ["ann", "bob"]
    there, here = back.references(), front.references()
    assert there.subject_ids == ("ann", "bob")
    np.testing.assert_array_equal(there.embeddings, here.embeddings[:4])
    np.testing.assert_array_equal(there.negatives, here.negatives)
    assert back.subject("ann").details == front.subject("ann").details
    assert back.subject("ann").crops == 0  # pictures stay behind
    assert back.check().subjects == 2


def test_file_tells_nothing_and_is_for_its_owner_alone(file: Path) -> None:
    content = file.read_bytes()
    assert b"ann" not in content
    assert b"Miller" not in content
    assert workload.references("ann")[0].tobytes()[:16] not in content
    assert file.stat().st_mode & 0o777 == 0o600


def test_signer_is_unknown_until_an_import(front: Gallery, back: Gallery, file: Path) -> None:
    sealed = read_export(file)
    assert is_trusted(front.store, sealed)
    assert not is_trusted(back.store, sealed)
    import_subjects(back.store, sealed, SECRET)
    assert is_trusted(back.store, sealed)


def test_wrong_passphrase_imports_nobody(back: Gallery, file: Path) -> None:
    with pytest.raises(GalleryKeyError, match="passphrase"):
        import_subjects(back.store, read_export(file), Passphrase("wrong horse battery"))
    assert back.subjects() == []


def test_cut_or_edited_file_is_refused_at_every_byte(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    other = tmp_path / "other"
    places = [*range(400), *range(400, len(content), 97), *range(len(content) - 70, len(content))]
    for place in places:
        edited = bytearray(content)
        edited[place] ^= 1
        other.write_bytes(edited)
        with pytest.raises(GalleryError):
            read_export(other)
    for length in [0, 5, 20, 100, 400, len(content) // 2, len(content) - 1]:
        other.write_bytes(content[:length])
        with pytest.raises(GalleryError):
            read_export(other)
    other.write_bytes(content + b"more")
    with pytest.raises(GalleryError):
        read_export(other)


def test_newer_version_says_so(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(MAGIC) + 1] = 2
    file.write_bytes(content)
    with pytest.raises(GalleryError, match=r"version 2.*update limen"):
        read_export(file)


def test_file_of_another_model_is_refused(file: Path, tmp_path: Path) -> None:
    with (
        Gallery.open(tmp_path / "other.db", model_id="n" * 32, create=True) as other,
        pytest.raises(ModelMismatchError, match="limen enrol"),
    ):
        import_subjects(other.store, read_export(file), SECRET)


def test_taken_id_imports_nobody(back: Gallery, file: Path) -> None:
    back.enrol("bob", workload.references("another bob"), [0.5, 0.5], AT)
    with pytest.raises(GalleryError, match="1 of the file's subject ids"):
        import_subjects(back.store, read_export(file), SECRET)
    assert [s.subject_id for s in back.subjects()] == ["bob"]


def test_nobody_of_that_id_and_a_short_passphrase_write_no_file(
    front: Gallery, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SubjectNotFoundError):
        export_subjects(front.store, ["ann", "nobody"], SECRET, out)
    with pytest.raises(GalleryKeyError, match="at least"):
        export_subjects(front.store, ["ann"], Passphrase("short"), out)
    with pytest.raises(GalleryError, match="cannot be written"):
        export_subjects(front.store, ["ann"], SECRET, tmp_path / "front.db" / "below")
    assert not out.exists()
