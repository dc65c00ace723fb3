from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limen.device.fakes import fake_operating_point
from limen.device.gallery import Gallery, checked_subject_id
from limen.errors import GalleryError, ModelMismatchError, SubjectNotFoundError

M1, M2 = "3f2a" * 8, "91bc" * 8
AT = "2026-11-01T12:00:00Z"
RNG = np.random.default_rng(7)


def unit_rows(rng: np.random.Generator, rows: int, size: int = 8) -> NDArray[np.float32]:
    values = rng.normal(size=(rows, size))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.sqlite"


def enrolled(path: Path, *names: str) -> None:
    with Gallery.open(path, model_id=M1, create=True) as gallery:
        for name in names:
            gallery.enrol(name, unit_rows(RNG, 2), [0.5, 0.9], AT)


def test_references_come_back_as_they_were_enrolled(path: Path) -> None:
    zoe, ann, more = unit_rows(RNG, 2), unit_rows(RNG, 1), unit_rows(RNG, 1)
    with Gallery.open(path, model_id=M1, create=True) as gallery:
        gallery.enrol("zoe", zoe, [0.5, 0.6], AT)
        gallery.enrol("ann", ann, [0.7], AT)
        gallery.enrol("zoe", more, [0.8], "2026-12-01T00:00:00Z")
    with Gallery.open(path) as gallery:
        found = gallery.references()
        assert gallery.model_id == M1
        assert [(s.subject_id, s.references, s.enrolled_at) for s in gallery.subjects()] == [
            ("ann", 1, AT),
            ("zoe", 3, AT),
        ]
    assert found.subject_ids == ("ann", "zoe")
    assert found.subject.tolist() == [0, 1, 1, 1]
    assert found.subject.dtype == np.int64
    assert found.embeddings.dtype == np.float32
    np.testing.assert_array_equal(found.embeddings, np.concatenate([ann, zoe, more]))


def test_empty_gallery_has_no_references(path: Path) -> None:
    with Gallery.open(path, model_id=M1, create=True) as gallery:
        assert gallery.references().subject_ids == ()
        assert gallery.references().embeddings.shape == (0, 0)
        assert gallery.subjects() == []


def test_file_is_private_whatever_the_umask(path: Path) -> None:
    old = os.umask(0)
    try:
        enrolled(path, "ann")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_closing_twice_is_harmless_and_use_after_it_is_an_error(path: Path) -> None:
    gallery = Gallery.open(path, model_id=M1, create=True)
    gallery.close()
    gallery.close()
    with pytest.raises(GalleryError, match="closed"):
        gallery.subjects()


def test_gallery_of_another_model_is_refused_with_the_remedy(path: Path) -> None:
    enrolled(path, "ann")
    with pytest.raises(ModelMismatchError, match=r"3f2a3f2a….*91bc91bc….*limen enrol") as raised:
        Gallery.open(path, model_id=M2)
    assert "ann" not in str(raised.value)


def test_empty_gallery_takes_on_another_model_and_forgets_its_point(path: Path) -> None:
    enrolled(path, "ann")
    with Gallery.open(path) as gallery:
        gallery.keep_operating_point(fake_operating_point(model_id=M1))
        gallery.remove("ann")
    with Gallery.open(path, model_id=M2) as gallery:
        assert gallery.model_id == M2
        assert gallery.operating_point() is None
        assert not gallery.calibration_is_stale()
        assert len(gallery.operating_points()) == 1


def test_missing_gallery_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(GalleryError, match="limen enrol"):
        Gallery.open(path, model_id=M1)
    with pytest.raises(GalleryError, match="model id"):
        Gallery.open(path, create=True)
    assert not path.exists()


def test_someone_elses_sqlite_is_refused_and_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(GalleryError, match="another program"):
        Gallery.open(path, model_id=M1, create=True)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_newer_schema_is_refused(path: Path) -> None:
    enrolled(path, "ann")
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(GalleryError, match="schema 99"):
        Gallery.open(path)


def test_folder_and_text_and_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="folder"):
        Gallery.open(tmp_path, model_id=M1, create=True)
    (tmp_path / "text").write_text("Anna\n" * 1000)
    with pytest.raises(GalleryError, match="not a gallery"):
        Gallery.open(tmp_path / "text", model_id=M1, create=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GalleryError, match="pipe"):
        Gallery.open(tmp_path / "pipe")
    with pytest.raises(GalleryError):
        Gallery.open(tmp_path / "text" / "below", model_id=M1, create=True)


def test_link_to_a_gallery_is_refused(path: Path) -> None:
    Gallery.open(path, model_id=M1, create=True).close()
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(GalleryError, match="found a link"):
        Gallery.open(link, model_id=M1, create=True)


def test_dangling_link_is_not_followed_to_make_a_gallery(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GalleryError, match="link"):
        Gallery.open(tmp_path / "link", model_id=M1, create=True)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_gallery_is_refused(path: Path, share: float) -> None:
    with Gallery.open(path, model_id=M1, create=True) as gallery:
        gallery.enrol("ann", unit_rows(RNG, 400, 128), [0.5] * 400, AT)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(GalleryError, match=r"damaged|not a gallery"):
        Gallery.open(path)


def test_damaged_reference_is_found_when_read(path: Path) -> None:
    enrolled(path, "ann")
    other = sqlite3.connect(path)
    other.execute("UPDATE reference SET sealed = zeroblob(length(sealed)) WHERE id = 1")
    other.commit()
    other.close()
    with Gallery.open(path) as gallery, pytest.raises(GalleryError, match="damaged"):
        gallery.references()


def test_locked_gallery_says_who_to_wait_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enrolled(path, "ann")
    monkeypatch.setattr("limen.device.gallery.file.BUSY_TIMEOUT_MS", 50)
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    with Gallery.open(path) as gallery:
        assert len(gallery.subjects()) == 1  # a reader is not kept waiting
        with pytest.raises(GalleryError, match="in use by another process"):
            gallery.enrol("bob", unit_rows(RNG, 1), [0.5], AT)
    other.close()


def test_full_disk_keeps_what_was_there(path: Path) -> None:
    enrolled(path, "ann")
    with Gallery.open(path) as gallery:
        pages = gallery.store.connection.execute("PRAGMA page_count").fetchone()[0]
        gallery.store.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(GalleryError, match="disk is full"):
            gallery.enrol("bob", unit_rows(RNG, 500, 8), [0.5] * 500, AT)
        assert [s.subject_id for s in gallery.subjects()] == ["ann"]


@pytest.mark.parametrize(
    ("embeddings", "qualities"),
    [
        (np.eye(8)[:1], [0.5]),
        (np.eye(8, dtype=np.float32)[0], [0.5]),
        (np.zeros((0, 8), np.float32), []),
        (2 * np.eye(8, dtype=np.float32)[:1], [0.5]),
        (np.full((1, 8), np.nan, np.float32), [0.5]),
        (np.eye(16, dtype=np.float32)[:1], [0.5]),
        (np.eye(8, dtype=np.float32)[:1], []),
        (np.eye(8, dtype=np.float32)[:1], [float("nan")]),
        (np.eye(8, dtype=np.float32)[:1], [1.5]),
    ],
)
def test_references_that_are_no_templates_are_refused(
    path: Path, embeddings: Any, qualities: list[float]
) -> None:
    enrolled(path, "ann")
    with Gallery.open(path) as gallery:
        with pytest.raises(GalleryError):
            gallery.enrol("bob", embeddings, qualities, AT)
        assert [s.subject_id for s in gallery.subjects()] == ["ann"]


@pytest.mark.parametrize(
    "name", ["", " ann", "ann ", "a\nb", "a\tb", "a\x00b", "a\u202eb", "x" * 65, "\ud800"]
)
def test_bad_subject_ids_are_refused_without_repeating_them(name: str) -> None:
    with pytest.raises(GalleryError) as raised:
        checked_subject_id(name)
    assert not name.strip() or name not in str(raised.value)


def test_one_name_in_two_unicode_forms_is_one_subject(path: Path) -> None:
    assert checked_subject_id("x" * 64) == "x" * 64
    with Gallery.open(path, model_id=M1, create=True) as gallery:
        gallery.enrol("Zoe\u0308", unit_rows(RNG, 1), [0.5], AT)
        gallery.enrol("Zo\u00eb", unit_rows(RNG, 1), [0.5], AT)
        assert [(s.subject_id, s.references) for s in gallery.subjects()] == [("Zo\u00eb", 2)]


def test_removing_leaves_no_trace_in_the_files(path: Path) -> None:
    secret = unit_rows(RNG, 3, 128)
    with Gallery.open(path, model_id=M1, create=True) as gallery:
        gallery.enrol("ann", unit_rows(RNG, 3, 128), [0.5] * 3, AT)
        gallery.enrol("Rumpelstiltskin", secret, [0.5] * 3, AT)
        gallery.remove("Rumpelstiltskin")
        everything = b"".join(file.read_bytes() for file in path.parent.iterdir())
        assert b"Rumpelstiltskin" not in everything
        assert secret[0].tobytes()[:64] not in everything
        with pytest.raises(SubjectNotFoundError, match="limen subjects") as raised:
            gallery.remove("Rumpelstiltskin")
        assert "Rumpel" not in str(raised.value)
        assert len(gallery.references().embeddings) == 3


def test_operating_point_is_kept_with_its_history_and_grows_stale(path: Path) -> None:
    enrolled(path, "ann")
    with Gallery.open(path) as gallery:
        assert gallery.operating_point() is None
        assert not gallery.calibration_is_stale()
        gallery.keep_operating_point(fake_operating_point(0.5, M1))
        gallery.keep_operating_point(fake_operating_point(0.6, M1))
        assert gallery.operating_point() == fake_operating_point(0.6, M1)
        assert not gallery.calibration_is_stale()
        gallery.enrol("bob", unit_rows(RNG, 1), [0.5], AT)
        assert gallery.calibration_is_stale()
        gallery.keep_operating_point(fake_operating_point(0.7, M1))
        assert not gallery.calibration_is_stale()
        gallery.remove("bob")
        assert gallery.calibration_is_stale()
        assert [p.threshold for p in gallery.operating_points()] == [0.5, 0.6, 0.7]


def test_operating_point_of_another_model_is_refused(path: Path) -> None:
    enrolled(path, "ann")
    with Gallery.open(path) as gallery:
        with pytest.raises(ModelMismatchError, match="limen calibrate"):
            gallery.keep_operating_point(fake_operating_point(model_id=M2))
        assert gallery.operating_point() is None


def test_change_counter_tells_of_another_process(path: Path) -> None:
    enrolled(path, "ann")
    with Gallery.open(path) as door, Gallery.open(path) as desk:
        before = door.change_counter()
        assert door.change_counter() == before
        desk.enrol("bob", unit_rows(RNG, 1), [0.5], AT)
        assert door.change_counter() > before
        before = door.change_counter()
        desk.keep_operating_point(fake_operating_point(model_id=M1))
        assert door.change_counter() > before
