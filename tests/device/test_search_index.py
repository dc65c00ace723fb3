"""The search index of a large gallery: the exact search's answers, sealed, and never stale."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import gallery_workload as workload
import numpy as np
import pytest

from limen.device import indexed_search
from limen.device.gallery import Gallery, searching, stream
from limen.device.gallery.file import destroy
from limen.device.gallery.index_file import index_path, read_index
from limen.device.gallery.index_key import MAX_CHANGED, read_index_key
from limen.device.gallery.records import Enrolment
from limen.device.gallery.sealing import DamagedRecordError, context
from limen.device.gallery.store import now_utc
from limen.device.indexed_search import IndexedSearch, quantised
from limen.device.matching import ExactSearch
from limen.device.recogniser import Recogniser
from limen.device.subjects import References, SubjectDetails
from limen.errors import GalleryError

pytest.importorskip("faiss")

MODEL_ID, AT = workload.MODEL_ID, workload.AT
PEOPLE = 40


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = rng.standard_normal(shape, np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a gallery will be whose index is used from the first subject on."""
    monkeypatch.setattr(indexed_search, "EXACT_UP_TO", 0)
    return tmp_path / "gallery.db"


def fill(path: Path) -> Gallery:
    gallery = Gallery.open(path, model_id=MODEL_ID, create=True)
    gallery.enrol_all(
        [
            Enrolment(name, workload.references(name), [0.5, 0.5], AT)
            for name in (f"p{number:02}" for number in range(PEOPLE))
        ]
    )
    return gallery


def found(references: References, name: str) -> str | None:
    """Who matches the fused references of `name` at .9."""
    row = workload.references(name).sum(0)
    best = Recogniser(references, 0.9).identify(row / np.linalg.norm(row), 1)
    return best[0].subject_id if best and best[0].score >= 0.9 else None


def sealed_key(path: Path) -> bytes:
    with sqlite3.connect(path) as other:
        row = other.execute("SELECT sealed FROM setting WHERE name = 'search index'").fetchone()
    return bytes(row[0])


@pytest.mark.timeout(300)
def test_a_large_gallery_gets_the_answers_of_exact_search() -> None:
    """101,000 templates; probes of strangers and of people at every score that a door sees."""
    rng = np.random.default_rng(4)
    templates = unit(rng, 101_000, 64)
    search, exact = IndexedSearch(templates, quantised(templates)), ExactSearch(templates)
    likeness = rng.uniform(0.5, 0.9, 100)[:, None]
    probes = likeness * templates[:100] + np.sqrt(1 - likeness**2) * unit(rng, 100, 64)
    probes = np.concatenate([probes, unit(rng, 100, 64)]).astype(np.float32)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    first, same_scores = 0, 0
    for probe in probes:
        rows, scores = search.best(probe, 5)
        true_rows, true_scores = exact.best(probe, 5)
        first += int(rows[0] == true_rows[0])
        same_scores += int(scores[0] == true_scores[0])
        assert rows.tolist() == sorted(rows.tolist(), key=lambda r: -float(scores[rows == r][0]))
    assert first == same_scores  # a score is exact, whenever the row is
    assert first / len(probes) >= 0.995


def test_whoever_may_not_enter_is_taken_out_before_the_scan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(indexed_search, "EXACT_UP_TO", 0)
    monkeypatch.setattr(indexed_search, "SHORTLIST", 200)
    rng = np.random.default_rng(5)
    templates = unit(rng, 5_000, 64)
    # More people than a shortlist holds are nearest to the probe and may not enter: a search that
    # filtered afterwards would find nobody.
    likeness = np.repeat([0.9, 0.7], [400, 3])[:, None]
    templates[1:404] = likeness * templates[0] + np.sqrt(1 - likeness**2) * templates[1:404]
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    search, exact = IndexedSearch(templates, quantised(templates)), ExactSearch(templates)
    among = np.ones(len(templates), np.bool_)
    among[:401] = False
    rows, scores = search.best(templates[0], 3, among)
    true_rows, true_scores = exact.best(templates[0], 3, among)
    np.testing.assert_array_equal(rows, true_rows)
    np.testing.assert_array_equal(scores, true_scores)
    assert sorted(rows.tolist()) == [401, 402, 403]
    rows, _ = search.best(templates[0], 1)
    assert rows.tolist() == [0]


def test_the_index_is_made_once_and_then_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fill(path) as gallery:
        made = gallery.templates(index_above=10)
    assert index_path(path).stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(searching, "load_references", None)  # nobody is opened one by one again
    with Gallery.open(path) as gallery:
        again = gallery.templates(index_above=10)
    assert again.subject_ids == made.subject_ids
    np.testing.assert_array_equal(again.embeddings, made.embeddings)
    assert found(again, "p07") == "p07"


def test_whoever_may_read_the_gallery_may_read_its_index(path: Path) -> None:
    with fill(path) as gallery:
        path.chmod(0o660)
        gallery.templates(index_above=10)
    assert index_path(path).stat().st_mode & 0o777 == 0o660


def test_a_gallery_that_is_erased_leaves_no_index(path: Path) -> None:
    with fill(path) as gallery:
        gallery.templates(index_above=10)
    destroy(path, path.with_name("gallery.db.key"))
    assert list(path.parent.iterdir()) == []


def test_a_small_gallery_has_no_index(path: Path) -> None:
    with fill(path) as gallery:
        assert gallery.templates(index_above=PEOPLE).search is None
    assert not index_path(path).exists()


def _enrol(gallery: Gallery) -> None:
    gallery.enrol("new", workload.references("new"), [0.5, 0.5], AT)


def _more(gallery: Gallery) -> None:
    gallery.enrol("p03", workload.references("other face of p03"), [0.5, 0.5], AT)


def _negatives(gallery: Gallery) -> None:
    row = workload.references("p03").sum(0, keepdims=True)
    gallery.add_negatives("p03", row / np.linalg.norm(row), AT)


CHANGES: list[tuple[Callable[[Gallery], object], str, str | None]] = [
    (_enrol, "new", "new"),
    (_more, "p04", "p04"),
    (lambda gallery: gallery.rename("p03", "renamed"), "p03", "renamed"),
    (_negatives, "p03", None),
    (lambda gallery: gallery.merge("p03", "p04"), "p05", "p05"),
    (lambda gallery: gallery.remove("p03"), "p03", None),
    (lambda gallery: gallery.rekey(), "p03", "p03"),
]


@pytest.mark.parametrize(("change", "probe", "expected"), CHANGES)
def test_what_changed_is_in_the_answers_at_once(
    path: Path, change: Callable[[Gallery], object], probe: str, expected: str | None
) -> None:
    with fill(path) as gallery:
        gallery.templates(index_above=10)
        change(gallery)
    with Gallery.open(path) as gallery:
        indexed, plain = gallery.templates(index_above=10), gallery.references()
        assert sorted(indexed.subject_ids) == list(plain.subject_ids)
        assert found(indexed, probe) == found(plain, probe) == expected


def test_rights_that_changed_are_in_the_index_at_once(path: Path) -> None:
    shut_out = SubjectDetails(may_enter=False)
    with fill(path) as gallery:
        gallery.describe("p01", shut_out)
        gallery.templates(index_above=10)
        gallery.describe("p02", shut_out)
        indexed = gallery.templates(index_above=10)
    details = dict(zip(indexed.subject_ids, indexed.details, strict=True))
    assert {name for name, told in details.items() if not told.may_enter} == {"p01", "p02"}


def test_a_right_taken_away_stays_away_where_the_library_is_missing_for_a_while(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fill(path) as gallery:
        gallery.templates(index_above=10)
        gallery.describe("p05", SubjectDetails(may_enter=False))
        with monkeypatch.context() as without:
            without.setattr(searching, "can_be_indexed", lambda _: False)
            assert gallery.templates(index_above=10).search is None
            gallery.remove("p09")  # which writes the index anew where it can
        after = gallery.templates(index_above=10)
    assert "p09" not in after.subject_ids
    details = dict(zip(after.subject_ids, after.details, strict=True))
    assert not details["p05"].may_enter


def test_a_calibration_leaves_the_index_as_it_is(path: Path) -> None:
    from limen.device.fakes import fake_operating_point

    with fill(path) as gallery:
        gallery.templates(index_above=10)
        gallery.keep_operating_point(fake_operating_point(0.6, MODEL_ID))
        key = read_index_key(gallery.store.connection.execute, gallery.store.vault)
    assert key is not None
    assert not key.changed


def test_after_many_changes_the_index_is_made_anew(path: Path) -> None:
    with fill(path) as gallery:
        gallery.templates(index_above=10)
        one = workload.references("many")
        gallery.enrol_all(
            [Enrolment(f"m{number}", one, [0.5, 0.5], AT) for number in range(MAX_CHANGED + 1)]
        )
        assert read_index_key(gallery.store.connection.execute, gallery.store.vault) is None
        assert len(gallery.templates(index_above=10).subject_ids) == PEOPLE + MAX_CHANGED + 1


def test_a_removed_person_is_gone_from_the_index_and_from_every_copy_of_it(path: Path) -> None:
    with fill(path) as gallery:
        gallery.templates(index_above=10)
        key = read_index_key(gallery.store.connection.execute, gallery.store.vault)
        assert key is not None
        copy = path.with_name("copied.index")
        shutil.copy(index_path(path), copy)
        old_key = sealed_key(path)
        indexed = read_index(gallery.store, MODEL_ID, key.key)
        assert indexed is not None
        assert indexed.subject_ids[3] == "p03"  # the copy opens, and the person is in it
        person = indexed.templates[3].tobytes()

        erasure = gallery.remove("p03")
        assert erasure.purged
        assert erasure.receipt["search_index_key_destroyed"] is True
        # The key that opens the copy is in neither file nor log, sealed or not.
        beside = b"".join(p.read_bytes() for p in path.parent.glob("gallery.db*"))
        assert old_key not in beside
        assert key.key not in beside
        # The index that took the old one's place opens with another key, without the person.
        now = read_index_key(gallery.store.connection.execute, gallery.store.vault)
        assert now is not None
        assert now.key != key.key
        again = read_index(gallery.store, MODEL_ID, now.key)
        assert again is not None
        assert "p03" not in again.subject_ids
        assert len(again.subject_ids) == PEOPLE - 1
        assert person not in again.templates.tobytes()
        shutil.copy(copy, index_path(path))  # somebody puts the copy back
        with pytest.raises(DamagedRecordError):
            read_index(gallery.store, MODEL_ID, now.key)
        assert found(gallery.templates(index_above=10), "p03") is None


def test_whoever_expires_is_gone_from_the_index(path: Path) -> None:
    with fill(path) as gallery:
        gallery.describe("p03", SubjectDetails(expires_at=now_utc() + timedelta(hours=1)))
        gallery.templates(index_above=10)
        assert gallery.erase_expired(now_utc()) == []
        assert len(gallery.erase_expired(now_utc() + timedelta(hours=2))) == 1
        assert found(gallery.templates(index_above=10), "p03") is None


@pytest.mark.parametrize("damage", ["cut", "cut to nothing", "swapped", "flipped", "longer"])
def test_an_index_that_was_changed_is_refused_and_made_anew(
    path: Path, damage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream, "CHUNK_BYTES", 512)
    size = 512 + 16
    with fill(path) as gallery:
        gallery.templates(index_above=10)
    content = index_path(path).read_bytes()
    assert len(content) > 4 * size
    changed = {
        "cut": content[: 3 * size],  # whole chunks: only the missing end tells
        "cut to nothing": b"",
        "swapped": content[size : 2 * size] + content[:size] + content[2 * size :],
        "flipped": content[:700] + bytes([content[700] ^ 1]) + content[701:],
        "longer": content + content[:size],
    }[damage]
    index_path(path).write_bytes(changed)
    with Gallery.open(path) as gallery:
        assert found(gallery.templates(index_above=10), "p07") == "p07"
        assert "made anew" in caplog.text
        assert index_path(path).read_bytes() not in (changed, content)


def test_another_gallerys_index_is_refused(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "gallery.db"
    with fill(other) as gallery:
        gallery.remove("p03")
        gallery.templates(index_above=10)
    with fill(path) as gallery:
        gallery.templates(index_above=10)
        shutil.copy(index_path(other), index_path(path))
        assert found(gallery.templates(index_above=10), "p03") == "p03"


def test_killed_before_the_key_was_kept_the_index_does_not_count(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fill(path) as gallery:
        with monkeypatch.context() as patch:
            patch.setattr(searching, "write_index_key", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                gallery.templates(index_above=10)
        assert index_path(path).exists()
        gallery.enrol("new", workload.references("new"), [0.5, 0.5], AT)
        assert found(gallery.templates(index_above=10), "new") == "new"


def test_changed_while_the_index_was_made_it_is_not_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fill(path) as gallery:
        write = searching.write_index

        def write_late(*arguments: object) -> bytes:
            gallery.remove("p03")
            return write(*arguments)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(searching, "write_index", write_late)
            gallery.templates(index_above=10)
        assert not index_path(path).exists()
        assert found(gallery.templates(index_above=10), "p03") is None


def test_an_index_that_cannot_be_kept_is_used_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(searching, "write_index", full)
    with fill(path) as gallery:
        assert found(gallery.templates(index_above=10), "p07") == "p07"
    assert "was not kept" in caplog.text


def test_without_the_library_search_is_exact_with_a_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with fill(path) as gallery:
        references = gallery.templates(index_above=10)
        assert references.search is None
        assert found(references, "p07") == "p07"
    assert "limen[index]" in caplog.text


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024, 5000])
def test_a_sealed_stream_comes_back_whole(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CHUNK_BYTES", 512)
    content = np.random.default_rng(size).bytes(size)
    bound_to = context("test")
    with (tmp_path / "sealed").open("wb") as file:
        writer = stream.SealedWriter(file, bytes(32), bound_to)
        writer.write(content[: size // 3])
        writer.write(content[size // 3 :])
        writer.finish()
    sealed = (tmp_path / "sealed").read_bytes()
    assert content[:64] == b"" or content[:64] not in sealed
    with (tmp_path / "sealed").open("rb") as file:
        reader = stream.SealedReader(file, bytes(32), bound_to)
        assert reader.read(size) == content
        reader.finish()
    with (tmp_path / "sealed").open("rb") as file, pytest.raises(GalleryError):
        reader = stream.SealedReader(file, bytes(32), context("another"))
        reader.read(max(1, size))
