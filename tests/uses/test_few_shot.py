"""Classes from a few examples: rules, refusals, files, episodes and the verbs."""

import numpy as np
import pytest

from limen.errors import CalibrationError, ModelMismatchError
from limen.uses.classes import (
    MAX_EXAMPLES,
    Classes,
    Rule,
    classify,
    rejection_by_each_other,
    rejection_by_strangers,
)
from limen.uses.classes_file import ClassesFileError, read_classes, write_classes
from limen.uses.embedding_set import EmbeddingsError, EmbeddingSet, numbered_labels
from limen.uses.episodes import few_shot
from limen.uses.strangers import Strangers


def at(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def labelled(embeddings, names):
    number, label_names = numbered_labels(list(names))
    return EmbeddingSet(tuple(map(str, range(len(number)))), embeddings, number, label_names)


def test_a_prototype_is_the_mean_and_nearest_the_nearest() -> None:
    classes = Classes.none(2, "m").learn("wide", at(0, 80)).learn("narrow", at(100))
    probe = at(85)
    by_mean = classify(classes, probe, Rule.PROTOTYPE, 0.5)[0]
    by_nearest = classify(classes, probe, Rule.NEAREST, 0.5)[0]
    assert (by_mean.name, by_nearest.name) == ("narrow", "wide")
    assert dict(by_mean.ranked)["wide"] == pytest.approx(np.cos(np.radians(45)), abs=1e-6)
    assert dict(by_nearest.ranked)["wide"] == pytest.approx(np.cos(np.radians(5)), abs=1e-6)
    assert classify(classes, at(200), Rule.NEAREST, 0.5)[0].name is None
    assert classify(classes, at(90), Rule.NEAREST, 0.5)[0].name == "wide"  # the first of a tie


def test_a_class_grows_and_is_forgotten() -> None:
    classes = Classes.none(2, "m").learn("a", at(0)).learn("b", at(90)).learn("a", at(10, 20))
    assert classes.counts() == {"a": 3, "b": 1}
    left = classes.forget("a")
    assert left.counts() == {"b": 1}
    assert np.allclose(left.embeddings, at(90))
    with pytest.raises(EmbeddingsError, match="no class 'a'"):
        left.forget("a")
    for name in ("", " ", "x\n", "y" * 300):
        with pytest.raises(EmbeddingsError, match="printable"):
            classes.learn(name, at(0))
    with pytest.raises(EmbeddingsError, match="at most"):
        classes.learn("c", np.repeat(at(1), MAX_EXAMPLES + 1, 0))
    with pytest.raises(ModelMismatchError):
        classes.scores(np.ones((1, 3), np.float32), Rule.NEAREST)
    with pytest.raises(EmbeddingsError, match="no class was learnt"):
        classify(Classes.none(2, "m"), at(0), Rule.NEAREST, 0.5)


def test_strangers_are_refused_at_the_rate_that_was_asked_for(digits) -> None:
    embeddings, label = digits
    classes = Classes.none(embeddings.shape[1], "")
    for digit in range(5):
        classes = classes.learn(str(digit), embeddings[label == digit][:5])
    strange = label >= 5
    half = np.arange(len(label)) % 2 == 0
    rows = strange & half
    strangers = Strangers(embeddings[rows], np.arange(rows.sum()), "digits")
    for rule in Rule:
        found = rejection_by_strangers(classes, rule, strangers, 0.1, 0.95)
        assert found.bound is not None
        assert found.bound <= 0.1
        others = classify(classes, embeddings[strange & ~half], rule, found.threshold)
        assert np.mean([one.name is not None for one in others]) <= 0.1
        known = ~strange & ~half
        right = classify(classes, embeddings[known], rule, found.threshold)
        accuracy = np.mean([one.name == str(d) for one, d in zip(right, label[known], strict=True)])
        assert accuracy > 0.7
        with pytest.raises(CalibrationError, match="cannot show"):
            rejection_by_strangers(classes, rule, strangers, 1e-4, 0.95)


def test_classes_that_are_held_against_each_other_promise_nothing() -> None:
    classes = Classes.none(2, "m").learn("a", at(0)).learn("b", at(60))
    found = rejection_by_each_other(classes, Rule.PROTOTYPE)
    assert found.bound is None
    assert found.threshold == pytest.approx(0.5, abs=1e-6)
    assert classify(classes, at(0), Rule.PROTOTYPE, found.threshold)[0].name == "a"
    with pytest.raises(CalibrationError, match="one class alone"):
        rejection_by_each_other(classes.forget("b"), Rule.PROTOTYPE)


def test_a_file_of_classes_is_checked(tmp_path) -> None:
    path = tmp_path / "classes"
    classes = Classes.none(2, "m").learn("a", at(0, 10)).learn("ü", at(60))
    write_classes(path, classes)
    assert path.stat().st_mode & 0o077 == 0
    again = read_classes(path)
    assert (again.names, again.model_id, again.counts()) == (("a", "ü"), "m", {"a": 2, "ü": 1})
    write_classes(tmp_path / "none", Classes.none(2, "m"))
    assert read_classes(tmp_path / "none").names == ()
    whole = path.read_bytes()
    for end in range(0, len(whole), 13):
        path.write_bytes(whole[:end])
        with pytest.raises(ClassesFileError):
            read_classes(path)
    broken = Classes(("a", "b"), at(0, 1), np.array([0, 0]), "m")  # 'b' has no example
    write_classes(path, broken)
    with pytest.raises(ClassesFileError, match="do not fit"):
        read_classes(path)


def test_episodes_are_right_where_classes_are_far_apart_and_by_chance_where_not() -> None:
    rng = np.random.default_rng(1)
    names = np.repeat([f"{a}/{c}" for a in "xy" for c in range(6)], 12)
    centres = rng.normal(size=(12, 16))
    far = np.repeat(centres, 12, 0) + rng.normal(size=(144, 16)) * 0.01
    options = {"ways": 5, "shots": 1, "queries": 3, "episodes": 200}
    found = few_shot(labelled(far.astype(np.float32), names), rule=Rule.NEAREST, rng=rng, **options)
    assert (found.accuracy, found.class_interval, found.classes) == (1, (1, 1), 12)
    noise = rng.normal(size=(144, 16)).astype(np.float32)
    found = few_shot(labelled(noise, names), rule=Rule.PROTOTYPE, rng=rng, **options)
    assert found.episode_interval[0] < 0.2 < found.episode_interval[1] + 0.02
    assert found.class_interval[0] < 0.22


def test_within_draws_from_one_folder() -> None:
    # Two alphabets with the same shapes: within one they differ, across they cannot be told apart.
    rng = np.random.default_rng(2)
    shapes = np.repeat(np.tile(rng.normal(size=(5, 16)), (2, 1)), 6, 0)
    names = np.repeat([f"{a}/{c}" for a in "xy" for c in range(5)], 6)
    rows = labelled((shapes + rng.normal(size=shapes.shape) * 0.01).astype(np.float32), names)
    options = {"shots": 1, "queries": 2, "episodes": 100, "rule": Rule.PROTOTYPE}
    inside = few_shot(rows, ways=5, within=True, rng=np.random.default_rng(1), **options)
    across = few_shot(rows, ways=10, rng=np.random.default_rng(1), **options)
    assert inside.accuracy == 1
    assert across.accuracy < 0.8
    with pytest.raises(EmbeddingsError, match="in one folder, found 5"):
        few_shot(rows, ways=6, within=True, rng=rng, **options)


def test_more_examples_name_digits_better(digits) -> None:
    embeddings, label = digits
    rng = np.random.default_rng(0)
    noisy = embeddings + rng.normal(0, 0.2, embeddings.shape).astype(np.float32)
    rows = labelled(noisy, map(str, label))
    found = [
        few_shot(
            rows, ways=5, shots=k, queries=5, episodes=150, rule=Rule.PROTOTYPE, rng=rng
        ).accuracy
        for k in (1, 10)
    ]
    assert found[0] + 0.1 < found[1]


def test_faces_are_learnt_named_and_refused(limen, album, tmp_path) -> None:
    classes, sheet = tmp_path / "people", tmp_path / "sheet.png"
    eileen, grace = album / "eileen", album / "grace"
    limen("learn", "eileen", eileen / "0.jpg", eileen / "1.jpg", "--classes", classes)
    said = limen(
        *("classify", eileen / "2.jpg", grace / "0.jpg", "--classes", classes),
        *("--sheet", sheet, "--json"),
        code=1,
    )
    assert [one["class"] for one in said["answers"]] == ["eileen", None]
    assert said["bound"] <= 0.01
    assert sheet.stat().st_size > 1000
    wrong = limen(
        *("learn", "cup", album / "things" / "coffee.jpg", "--classes", classes),
        *("--domain", "whole"),
        code=2,
    )
    assert "another --classes" in wrong
    assert "no face was found" in limen(
        *("learn", "cup", album / "things" / "coffee.jpg", "--classes", classes), code=2
    )
    assert limen("learn", "eileen", "--forget", "--classes", classes).strip() == "no class"
    assert "holds no class" in limen("classify", eileen / "2.jpg", "--classes", classes, code=2)
