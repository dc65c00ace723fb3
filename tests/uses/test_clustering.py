"""Grouping: figures against plain loops, the cut of strangers, albums that grow."""

import itertools
import os

import numpy as np
import pytest

from limen.errors import ConfigError, ModelMismatchError
from limen.images import encode_jpeg
from limen.uses.albums import Albums, AlbumsError
from limen.uses.cluster_figures import b_cubed, cluster_figures, pairwise
from limen.uses.clustering import Method, assign, best_cut, by_size, cluster
from limen.uses.strangers import Strangers


def test_figures_are_those_of_plain_loops() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        number, label = rng.integers(0, 5, 30), rng.integers(0, 4, 30)
        precision = np.mean([np.mean(label[number == number[i]] == label[i]) for i in range(30)])
        recall = np.mean([np.mean(number[label == label[i]] == number[i]) for i in range(30)])
        found = b_cubed(number, label)
        assert (found.precision, found.recall) == pytest.approx((precision, recall))
        pairs = list(itertools.combinations(range(30), 2))
        grouped = [p for p in pairs if number[p[0]] == number[p[1]]]
        same = [p for p in pairs if label[p[0]] == label[p[1]]]
        both = len(set(grouped) & set(same))
        found = pairwise(number, label)
        assert (found.precision, found.recall) == pytest.approx(
            (both / len(grouped), both / len(same))
        )


def test_the_worked_example_of_b_cubed() -> None:
    # Amigó et al. 2009, section 5: half of each group right, everything in two groups.
    found = b_cubed(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert (found.precision, found.recall, found.f) == (0.5, 0.5, 0.5)
    perfect = cluster_figures(np.array([4, 4, 9]), np.array([1, 1, 0]))
    assert (perfect.nmi, perfect.ami, perfect.b_cubed.f, perfect.pairwise.f) == (1, 1, 1, 1)
    alone = pairwise(np.arange(3), np.arange(3))
    assert (alone.precision, alone.recall) == (1, 1)


def test_average_linkage_is_cut_as_plain_loops_would() -> None:
    rng = np.random.default_rng(5)
    unit = rng.normal(size=(40, 3)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for cut in (0.9, 0.6, 0.1):
        groups = [[row] for row in range(40)]
        while len(groups) > 1:
            scores = {
                (a, b): float(np.mean(unit[groups[a]] @ unit[groups[b]].T))
                for a, b in itertools.combinations(range(len(groups)), 2)
            }
            (a, b), best = max(scores.items(), key=lambda item: item[1])
            if best < cut:
                break
            groups[a] += groups.pop(b)
        expected = np.empty(40, np.int64)
        for number, rows in enumerate(groups):
            expected[rows] = number
        assert cluster(unit, cut).tolist() == by_size(expected).tolist()


@pytest.mark.parametrize("method", list(Method))
def test_digits_are_grouped_at_the_cut_of_others(digits, method) -> None:
    embeddings, label = digits
    half = np.arange(len(label)) % 2 == 0
    cut = best_cut(Strangers(embeddings[half], label[half].astype(np.int64), "digits"), method)
    assert cut.b_cubed_f is not None
    number = cluster(embeddings[~half], cut.score, method)
    found = b_cubed(number, label[~half])
    assert found.f > 0.8
    assert found.f > b_cubed(cluster(embeddings[~half], 0.98, method), label[~half]).f + 0.2
    assert found.f == pytest.approx(cut.b_cubed_f, abs=0.08)


def test_new_rows_join_by_the_mean_or_stay_out() -> None:
    known = np.array([[1, 0], [0.8, 0.6], [-1, 0]], np.float32)
    new = np.array([[0.96, 0.28], [0, 1], [-1, 0]], np.float32)
    # Mean cosines with group 0: .968, .3, -.9; with group 1: -.96, 0, 1.
    number = np.array([0, 0, 1])
    assert assign(new, known, number, 0.9).tolist() == [0, -1, 1]
    assert assign(new, known, number, 0.3).tolist() == [0, 0, 1]


def test_too_many_and_impossible_cuts_are_refused() -> None:
    with pytest.raises(ConfigError, match="hdbscan takes more"):
        cluster(np.zeros((12_001, 1), np.float32), 0.5)
    with pytest.raises(ConfigError, match="threshold"):
        cluster(np.eye(2, dtype=np.float32), 1.5)
    assert cluster(np.ones((1, 2), np.float32), 0.5).tolist() == [0]


def test_albums_are_links_and_grow(limen, album, shots, tmp_path) -> None:
    out = tmp_path / "albums"
    late = album / "eileen" / "2.jpg"
    content = late.read_bytes()
    late.unlink()
    said = limen("cluster", album, "--out", out, "--evaluate", "--json")
    assert 0.2 < said["threshold"] < 0.6
    assert "600 of the bundle's strangers" in said["basis"]
    first = {(out / "album-0001" / name).resolve() for name in os.listdir(out / "album-0001")}
    assert first == {(album / "eileen" / name).resolve() for name in ("0.jpg", "1.jpg")}
    assert said["figures"]["b_cubed"]["f"] == 1
    page = (out / "index.html").read_text("utf-8")
    assert page.count("data:image/jpeg") >= 4
    assert "http://" not in page.replace("http-equiv", "")
    late.write_bytes(content)
    whole = encode_jpeg(np.concatenate([shots["eileen/0.jpg"], shots["eileen/0.jpg"]], 1))
    (album / "both.jpg").write_bytes(whole)
    before = Albums.read(out, said_model(limen, album))
    said = limen("cluster", album, "--out", out, "--add", "--json")
    members = {tuple(m) for m in said["albums"][0]["members"]}
    assert {("eileen/2.jpg", 0), ("both.jpg", 0), ("both.jpg", 1)} <= members
    assert [a.number for a in before.albums] == [a["number"] for a in said["albums"]]
    assert (out / "album-0001" / "eileen__2.jpg").resolve() == late.resolve()
    with pytest.raises(ModelMismatchError):
        Albums.read(out, "another")
    (out / "mine.txt").write_text("notes")
    assert "mine.txt" in limen("cluster", album, "--out", out, "--threshold", 0.4, code=2)
    assert (out / "mine.txt").exists()
    inside = limen("cluster", album, "--out", album / "albums", "--threshold", 0.4, code=2)
    assert "outside" in inside


def said_model(limen, album):
    return limen("search", album / "eileen" / "0.jpg", "--in", album, "--json")["model_id"]


def test_a_list_of_albums_is_checked(tmp_path) -> None:
    with pytest.raises(AlbumsError, match="without --add"):
        Albums.read(tmp_path, "")
    for text in ("{}", "[", '{"model_id": "", "albums": [{"number": 0, "members": []}]}'):
        (tmp_path / "albums.json").write_text(text)
        with pytest.raises(AlbumsError):
            Albums.read(tmp_path, "")


def test_names_are_escaped_on_the_page(limen, tmp_path) -> None:
    rows = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    name = np.array(["<b>one</b>", "$two", "three"])
    np.savez(tmp_path / "e.npz", embedding=rows, name=name)
    out = tmp_path / "albums"
    limen("cluster", "--embeddings", tmp_path / "e.npz", "--threshold", 0.9, "--out", out)
    page = (out / "index.html").read_text("utf-8")
    assert "&lt;b&gt;one" in page
    assert "<b>one" not in page
    assert "nothing says where to cut" in limen(
        "cluster", "--embeddings", tmp_path / "e.npz", code=2
    )
