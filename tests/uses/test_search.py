"""Searching a folder: the index, the distances, what is there twice, and the figures."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from limen.errors import ModelMismatchError, PictureError
from limen.images import encode_jpeg
from limen.uses.distances import Distance, References
from limen.uses.duplicates import near_duplicates
from limen.uses.embedding_file import read_embeddings
from limen.uses.embedding_set import EmbeddingsError, EmbeddingSet, numbered_labels
from limen.uses.indexing import bring_up_to_date, open_index
from limen.uses.picture_index import INDEX_NAME, PictureIndex, PictureIndexError
from limen.uses.retrieval import retrieval_figures
from limen.uses.sight import Region, Seen, WholeSight
from limen.uses.strangers import Strangers


class CountingSight:
    """Sees the whole picture; an embedding is the picture's mean colour and a constant."""

    model_id = "counting"
    embedding_size = 4

    def __init__(self, delay_s=0.0):
        self.embedded = 0
        self.delay_s = delay_s

    def see(self, image):
        return [Seen(image, np.array([0, 0, image.shape[1], image.shape[0]], np.float32))]

    def embed(self, seen):
        self.embedded += len(seen)
        time.sleep(self.delay_s)
        rows = np.array([[*one.crop.mean((0, 1)), 64.0] for one in seen], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def coloured(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = np.full((32, 32, 3), (number * 7 % 256, number * 31 % 256, 90), np.uint8)
        (folder / f"{number:03d}.jpg").write_bytes(encode_jpeg(image))


def update(folder, sight, **options):
    with open_index(folder, sight, **options) as index:
        return bring_up_to_date(index, folder, sight), index.embeddings()


def labelled(embeddings, label):
    number, names = numbered_labels([str(one) for one in label])
    return EmbeddingSet(tuple(map(str, range(len(label)))), embeddings, number, names)


def test_only_what_is_new_or_changed_is_embedded_again(tmp_path) -> None:
    folder, sight = tmp_path / "pictures", CountingSight()
    coloured(folder, 10)
    first, _ = update(folder, sight)
    assert (first.embedded, first.unchanged, sight.embedded) == (10, 0, 10)
    again, found = update(folder, sight)
    assert (again.embedded, again.unchanged, sight.embedded) == (0, 10, 10)
    assert found.name == tuple(f"{number:03d}.jpg" for number in range(10))
    os.utime(folder / "000.jpg", (1, 1))  # touched: known by its bytes
    (folder / "001.jpg").rename(folder / "moved.jpg")
    shutil.copy(folder / "002.jpg", folder / "copy.jpg")
    (folder / "003.jpg").unlink()
    # One takes another's place and both change: nobody inherits what is no longer theirs.
    old = (folder / "004.jpg").read_bytes()
    (folder / "004.jpg").write_bytes(encode_jpeg(np.full((40, 40, 3), 200, np.uint8)))
    (folder / "new.jpg").write_bytes(old)
    third, found = update(folder, sight)
    assert (third.embedded, third.reused, third.removed) == (1, 4, 2)
    assert sight.embedded == 11
    fresh, expected = update(folder, CountingSight(), path=tmp_path / "fresh.db")
    assert fresh.embedded == 10  # the copy's twin is known by its bytes
    assert found.name == expected.name
    assert np.array_equal(found.embeddings, expected.embeddings)


def test_a_killed_run_goes_on_where_it_was(tmp_path) -> None:
    folder = tmp_path / "pictures"
    coloured(folder, 200)
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('t', {__file__!r})\n"
        "t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t)\n"
        "from pathlib import Path\n"
        "t.update(Path(sys.argv[1]), t.CountingSight(0.01))\n"
    )
    child = subprocess.Popen([sys.executable, script, folder])
    index = folder / INDEX_NAME
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if index.exists() and _count(index) >= 64:
            break
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = _count(index)
    assert 64 <= kept < 200
    sight = CountingSight()
    brought, found = update(folder, sight)
    assert (brought.unchanged, brought.embedded) == (kept, 200 - kept)
    assert len(found) == 200


def _count(index):
    try:
        connection = sqlite3.connect(f"file:{index}?mode=ro", uri=True)
        try:
            return connection.execute("SELECT count(*) FROM picture").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error:
        return 0


def test_a_folder_that_changes_while_it_is_read(tmp_path) -> None:
    folder = tmp_path / "pictures"
    coloured(folder, 30)

    class Deleting(CountingSight):
        def embed(self, seen):
            (folder / "029.jpg").unlink(missing_ok=True)
            return super().embed(seen)

    brought, found = update(folder, Deleting())
    assert brought.vanished == 1
    assert len(found) == 29
    (folder / "000.jpg").write_bytes(b"")
    _, found = update(folder, CountingSight())
    assert "000.jpg" not in found.name


def test_an_index_is_of_one_model_one_folder_and_whole(tmp_path) -> None:
    folder, other = tmp_path / "pictures", tmp_path / "other"
    coloured(folder, 3)
    coloured(other, 2)
    place = tmp_path / "index.db"
    update(folder, CountingSight(), path=place)
    assert place.stat().st_mode & 0o077 == 0
    with pytest.raises(PictureIndexError, match="another folder"):
        open_index(other, CountingSight(), place)
    stranger = CountingSight()
    stranger.model_id = "another"
    with pytest.raises(ModelMismatchError, match="--rebuild"):
        open_index(folder, stranger, place)
    brought, _ = update(folder, stranger, path=place, rebuild=True)
    assert brought.embedded == 3
    with pytest.raises(PictureError, match="no picture there"):
        (tmp_path / "empty").mkdir()
        update(tmp_path / "empty", CountingSight())
    mine = tmp_path / "letter.txt"
    mine.write_text("dear all")
    with pytest.raises(PictureIndexError, match="damaged"):
        open_index(folder, CountingSight(), mine, rebuild=True)
    assert mine.read_text() == "dear all"  # what is no index is not thrown away


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sample SET embedding = x'00'",
        "UPDATE sample SET embedding = zeroblob(16)",
        "UPDATE sample SET embedding = x'0000c07f0000c07f0000c07f0000c07f'",
        "UPDATE sample SET embedding = 'text'",
        "DROP TABLE sample",
        "DELETE FROM meta",
        "UPDATE meta SET value = '99999999' WHERE key = 'embedding_size'",
    ],
)
def test_a_damaged_index_is_refused(tmp_path, change) -> None:
    folder = tmp_path / "pictures"
    coloured(folder, 3)
    update(folder, CountingSight())
    connection = sqlite3.connect(folder / INDEX_NAME)
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(PictureIndexError), PictureIndex.open(folder / INDEX_NAME) as index:
        index.embeddings()


@pytest.mark.parametrize("distance", list(Distance))
def test_the_nearest_are_those_of_plain_loops_ties_by_row(distance) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(400, 12)).astype(np.float32) * rng.uniform(0.1, 9, (400, 1))
    rows = rows.astype(np.float32)
    rows[300:310] = rows[7]
    query = rows[7] + np.float32(1e-3)
    found, scores = References(rows, distance).nearest(query, 25)

    def score(one, other):
        one, other = one.astype(np.float64), other.astype(np.float64)
        if distance is Distance.COSINE:
            return one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        return -(
            (abs(one - other) ** (2 if distance == "euclidean" else 1)).sum()
            ** (0.5 if distance == "euclidean" else 1)
        )

    every = np.array([score(query, row) for row in rows])
    assert np.allclose(scores, np.sort(every)[::-1][:25], atol=1e-6)
    assert found[:11].tolist() == [7, *range(300, 310)]
    assert set(found) == set(np.argsort(-every, kind="stable")[:25])
    with pytest.raises(EmbeddingsError, match="different models"):
        References(rows, distance).nearest(query[:5], 3)


def test_no_direction_is_told_and_other_distances_still_work() -> None:
    rows = np.array([[1, 0], [0, 0]], np.float32)
    with pytest.raises(EmbeddingsError, match="number 1 is all zeros"):
        References(rows, Distance.COSINE)
    assert References(rows, Distance.EUCLIDEAN).nearest(rows[1], 2)[0].tolist() == [1, 0]


def test_the_figures_are_those_of_pytorch_metric_learning_and_of_loops(digits) -> None:
    embeddings, label = digits
    rng = np.random.default_rng(3)
    noisy = (embeddings + rng.normal(0, 0.2, embeddings.shape)).astype(np.float32)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    label = label.copy()
    label[0] = 77  # a class of one: no query, but in the way
    found = retrieval_figures(labelled(noisy, label))
    assert found.queries == len(label) - 1
    assert 0.3 < found.map_at_r < found.precision_at_1 < 0.95
    cosine = noisy @ noisy.T
    np.fill_diagonal(cosine, -2)
    order = np.argsort(-cosine, axis=1, kind="stable")
    for rank, value in found.recall_at.items():
        hits = [label[q] in label[order[q, :rank]] for q in range(1, len(label))]
        assert value == pytest.approx(np.mean(hits))
    torch = pytest.importorskip("torch", reason="needs the extra 'train'")
    pytest.importorskip("pytorch_metric_learning", reason="needs the extra 'train'")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    theirs = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        knn_func=CustomKNN(CosineSimilarity()),
    ).get_accuracy(torch.tensor(noisy), torch.tensor(label))
    assert found.precision_at_1 == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert found.r_precision == pytest.approx(theirs["r_precision"], abs=1e-6)
    assert found.map_at_r == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)


def test_labels_are_needed_for_figures() -> None:
    with pytest.raises(EmbeddingsError, match="two labels or more, found 1"):
        retrieval_figures(labelled(np.eye(3, dtype=np.float32), [1, 1, 1]))
    with pytest.raises(EmbeddingsError, match="every class has one picture"):
        retrieval_figures(labelled(np.eye(3, dtype=np.float32), [1, 2, 3]))


def test_duplicates_are_chained_and_name_their_weakest_link() -> None:
    angles = np.radians([0, 10, 20, 90, 180, 180.0])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    groups = near_duplicates(labelled(rows, range(6)), np.cos(np.radians(10.5)))
    assert [group.rows for group in groups] == [(0, 1, 2), (4, 5)]
    assert groups[0].lowest == pytest.approx(np.cos(np.radians(10)), abs=1e-5)
    assert [g.rows for g in near_duplicates(labelled(rows, range(6)), 1.0)] == [(4, 5)]


def test_the_threshold_keeps_its_false_match_rate_in_every_distance(digits) -> None:
    embeddings, label = digits
    strangers = Strangers(embeddings, label.astype(np.int64), "digits")
    for distance in Distance:
        bar = strangers.threshold(0.01, distance)
        matched = total = 0
        for row in range(0, len(label), 7):
            _, scores = (r := References(embeddings, distance)).nearest(embeddings[row], len(label))
            rows, scores = r.nearest(embeddings[row], len(label))
            different = label[rows] != label[row]
            matched += int((scores[different] >= bar).sum())
            total += int(different.sum())
        assert matched / total == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"other": np.zeros(3)}, "no array 'embedding'"),
        ({"embedding": np.zeros(3)}, "expected \\(n, D\\) numbers"),
        ({"embedding": np.zeros((0, 4))}, "rows"),
        ({"embedding": np.array([[1, np.nan]])}, "not finite"),
        ({"embedding": np.eye(2), "label": np.zeros(3, int)}, "one a row"),
        ({"embedding": np.eye(2), "detected": np.zeros(2, bool)}, "nothing was detected"),
        ({"embedding": np.array([["a", "b"]])}, "expected \\(n, D\\) numbers"),
        ({"embedding": np.array([[{}, 1]], object)}, "another kind"),
        ({"embedding": np.eye(2), "label": np.eye(2)[0]}, "expected text or numbers"),
    ],
)
def test_embeddings_from_elsewhere_are_checked(tmp_path, arrays, said) -> None:
    path = tmp_path / "found.npz"
    np.savez(path, **arrays)
    with pytest.raises(EmbeddingsError, match=said):
        read_embeddings(path)


def test_a_file_cut_short_at_any_place_is_refused_with_one_kind_of_error(tmp_path) -> None:
    path = tmp_path / "found.npz"
    np.savez_compressed(path, embedding=np.eye(9, dtype=np.float16), label=np.arange(9) - 1)
    whole = path.read_bytes()
    found = read_embeddings(path)
    assert (len(found), found.label[0], len(found.label_names)) == (9, -1, 8)
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(whole[: rng.integers(0, len(whole) + 1)])
        for place in rng.integers(0, max(1, len(broken)), 3):
            if broken:
                broken[place] = rng.integers(0, 256)
        path.write_bytes(broken)
        with contextlib.suppress(EmbeddingsError):
            assert np.isfinite(read_embeddings(path).embeddings).all()


def test_a_region_is_cut_out_before_it_is_embedded() -> None:
    class Recording:
        model_id = "recording"

        def embed(self, aligned):
            self.aligned = aligned
            return np.ones((len(aligned), 1), np.float32)

    image = np.zeros((40, 80, 3), np.uint8)
    image[:20, 40:] = 255
    embedder = Recording()
    sight = WholeSight(embedder, 1, 20, Region.parse("0.5,0,1,0.5"))
    seen = sight.see(image)
    assert seen[0].box_xyxy.tolist() == [40, 0, 80, 20]
    sight.embed(seen)
    assert embedder.aligned.shape == (1, 20, 20, 3)
    assert embedder.aligned[0, 5:15].min() == 255  # the white half, between black borders


def test_faces_are_found_again_and_seen_on_a_sheet(limen, album, tmp_path) -> None:
    query, sheet = tmp_path / "query.jpg", tmp_path / "sheet.png"
    shutil.copy(album / "eileen" / "0.jpg", query)
    said = limen("search", query, "--in", album, "--top", 4, "--sheet", sheet, "--json")
    assert said["index"]["embedded"] == 7
    assert {"eileen/0.jpg", "eileen/1.jpg", "eileen/2.jpg"} == {
        r["name"] for r in said["results"] if r["same"]
    }
    assert said["results"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert Image.open(sheet).size[0] >= 420
    by_index = limen("search", query, "--in", album / INDEX_NAME, "--top", 4, "--json")
    assert by_index["results"] == said["results"]
    other = limen("search", query, "--in", album, "--distance", "manhattan", "--top", 3, "--json")
    assert [r["name"][:6] for r in other["results"]] == ["eileen"] * 3
    assert all(r["same"] for r in other["results"])
    error = limen("search", album / "things" / "broken.jpg", "--in", album, code=2)
    assert "not a picture" in error or "damaged" in error
    error = limen("search", query, "--in", album, "--domain", "whole", code=2)
    assert "--rebuild" in error


def test_whole_pictures_need_no_face(limen, album, tmp_path) -> None:
    shutil.copy(album / "things" / "coffee.jpg", album / "again.jpg")
    options = ("--in", album, "--domain", "whole", "--index", tmp_path / "whole.db")
    said = limen("search", album / "things" / "coffee.jpg", *options, "--top", 2, "--json")
    assert {r["name"] for r in said["results"]} == {"again.jpg", "things/coffee.jpg"}
    assert said["results"][0]["same"] is None  # the bundle's strangers are faces
    twice = limen("search", "--duplicates", "--near", 0.9999, *options, "--json")
    assert ["again.jpg", "things/coffee.jpg"] in [group["names"] for group in twice["groups"]]


def test_embeddings_from_elsewhere_are_searched(limen, digits_file, digits) -> None:
    said = limen("search", "digit-0000", "--embeddings", digits_file, "--top", 5, "--json")
    assert [r["label"] for r in said["results"]] == [str(digits[1][0])] * 5
    assert "digit-0000" not in [r["name"] for r in said["results"]]
    same = limen(*("search", "0", "--embeddings", digits_file, "--cohort", digits_file, "--json"))
    assert all(r["same"] for r in same["results"])
    figures = limen("search", "--evaluate", "--embeddings", digits_file, "--json")
    assert figures["precision_at_1"] > 0.9
    assert "row from 0" in limen("search", "nobody", "--embeddings", digits_file, code=2)
    assert "cosine, euclidean" in limen(
        *("search", "0", "--embeddings", digits_file, "--distance", "hamming"), code=2
    )


def test_no_use_imports_torch_nor_scikit_learn_before_it_is_asked_to() -> None:
    code = (
        "import sys, pkgutil, importlib, limen.uses, limen.cli.main\n"
        "names = [m.name for m in pkgutil.iter_modules(limen.uses.__path__)]\n"
        "assert len(names) > 10, names\n"
        "for name in names: importlib.import_module(f'limen.uses.{name}')\n"
        "print(sorted({'torch', 'sklearn', 'usearch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
