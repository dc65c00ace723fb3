"""Enrolment protects the gallery: outliers, twins, repetitions, and what strangers would gain."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from limen.device.enrolment import Shot, Shots, advise
from limen.device.enrolment.bulk import people_from_csv, people_from_folders
from limen.device.enrolment.consistency import (
    ENOUGH,
    MAX_REFERENCES,
    OUTLIER,
    REDUNDANT,
    STRANGER,
    TORN,
    judge_together,
)
from limen.device.enrolment.strangers import Strangers
from limen.device.fakes import FakeDetector, FakeEmbedder, fake_picture
from limen.device.subjects import References
from limen.errors import ConfigError, GalleryError
from limen.recognition import acquire

SIZE = 32
RNG = np.random.default_rng(4)


def unit(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), np.float32)


def person(rng: np.random.Generator) -> np.ndarray:
    return unit(rng.normal(size=SIZE))


def takes(of: np.ndarray, count: int, rng: np.random.Generator, spread: float = 0.08) -> np.ndarray:
    """Shots of one person: alike, and not the same."""
    return unit(of + rng.normal(size=(count, SIZE)) * spread)


def strangers() -> Strangers:
    rng = np.random.default_rng(9)
    people = [person(rng) for _ in range(120)]
    rows = np.concatenate([takes(p, 3, rng) for p in people])
    return Strangers.of(rows, np.repeat(np.arange(120), 3))


STRANGERS = strangers()
SAME = STRANGERS.at_fmr_1e_3
ANN, BOB = person(RNG), person(RNG)
NOBODY = np.zeros((0, SIZE), np.float32)
SAMPLE = acquire(fake_picture((200, 20, 20)), FakeDetector(), FakeEmbedder())


def as_shots(rows: np.ndarray, quality: float = 0.5) -> Shots:
    samples = [dataclasses.replace(SAMPLE, embedding=row, quality=quality) for row in rows]
    return Shots(tuple(Shot(f"shot {n}", s) for n, s in enumerate(samples)), ())


def enrolled(**people: np.ndarray) -> References:
    names = sorted(people)
    return References(
        tuple(names),
        np.concatenate([np.full(len(people[n]), i, np.int64) for i, n in enumerate(names)]),
        np.concatenate([people[n] for n in names]),
    )


EMPTY = References((), np.zeros(0, np.int64), np.zeros((0, 0), np.float32))


def judged(shots: np.ndarray, known: np.ndarray = NOBODY) -> list[str | None]:
    return judge_together(shots, known, [0.5] * len(shots), SAME)


def test_shots_of_one_person_are_all_taken() -> None:
    assert judged(takes(ANN, 5, RNG)) == [None] * 5
    assert judged(takes(ANN, 1, RNG)) == [None]


def test_shot_of_another_person_is_an_outlier() -> None:
    shots = np.concatenate([takes(ANN, 2, RNG), takes(BOB, 1, RNG), takes(ANN, 2, RNG)])
    assert judged(shots) == [None, None, OUTLIER, None, None]


def test_two_people_in_equal_numbers_are_refused() -> None:
    assert judged(np.concatenate([takes(ANN, 2, RNG), takes(BOB, 2, RNG)])) == [TORN] * 4
    assert judged(np.concatenate([takes(ANN, 1, RNG), takes(BOB, 1, RNG)])) == [TORN] * 2


def test_known_references_decide_who_the_person_is() -> None:
    known = takes(ANN, 2, RNG)
    assert judged(takes(BOB, 5, RNG), known) == [STRANGER] * 5
    shots = np.concatenate([takes(BOB, 3, RNG), takes(ANN, 1, RNG)])
    assert judged(shots, known) == [STRANGER] * 3 + [None]


def test_the_same_picture_again_is_redundant_and_the_best_one_stays() -> None:
    shot = takes(ANN, 1, RNG)
    twice = np.concatenate([shot, shot, takes(ANN, 1, RNG)])
    assert judge_together(twice, NOBODY, [0.4, 0.6, 0.5], SAME) == [REDUNDANT, None, None]
    assert judged(shot, shot) == [REDUNDANT]


def test_a_subject_has_no_more_references_than_help() -> None:
    known = takes(ANN, MAX_REFERENCES - 1, RNG)
    reasons = judge_together(takes(ANN, 3, RNG), known, [0.3, 0.9, 0.5], SAME)
    assert reasons == [ENOUGH, None, ENOUGH]


def test_same_person_under_another_id_is_named() -> None:
    gallery = enrolled(ann=takes(ANN, 4, RNG), bob=takes(BOB, 4, RNG))
    advice = advise(as_shots(takes(ANN, 3, RNG)), "eve", gallery, STRANGERS, None)
    assert [d.subject_id for d in advice.duplicates] == ["ann"]
    assert advice.duplicates[0].strangers_as_alike == 0
    again = advise(as_shots(takes(ANN, 3, RNG)), "ann", gallery, STRANGERS, None)
    assert again.lookalikes == ()


def test_lookalike_is_named_and_is_no_duplicate() -> None:
    sister = unit(ANN + 0.9 * person(RNG))
    gallery = enrolled(ann=takes(ANN, 4, RNG, 0.02), bob=takes(BOB, 4, RNG))
    alike = float(sister @ ANN)
    advice = advise(
        as_shots(takes(sister, 3, RNG, 0.02)), "sister", gallery, STRANGERS, alike + 0.1
    )
    assert [look.subject_id for look in advice.lookalikes] == ["ann"]
    assert advice.duplicates == ()
    assert advice.lookalikes[0].strangers_as_alike <= 1e-3
    unlike = advise(as_shots(takes(person(RNG), 3, RNG)), "eve", gallery, STRANGERS, 0.9)
    assert unlike.lookalikes == ()


def test_fpir_is_predicted_as_it_is_counted_by_a_plain_loop() -> None:
    gallery = enrolled(ann=takes(ANN, 3, RNG), bob=takes(BOB, 3, RNG))
    shots = as_shots(takes(person(RNG), 3, RNG))
    threshold = 0.3
    advice = advise(shots, "eve", gallery, STRANGERS, threshold)
    templates = [unit(gallery.embeddings[gallery.subject == n].sum(0)) for n in (0, 1)]
    before = np.mean(
        [max(float(s @ t) for t in templates) >= threshold for s in STRANGERS.embeddings]
    )
    templates.append(unit(shots.embeddings().sum(0)))
    after = np.mean(
        [max(float(s @ t) for t in templates) >= threshold for s in STRANGERS.embeddings]
    )
    assert advice.fpir_before[0] == pytest.approx(before)
    assert advice.fpir_after[0] == pytest.approx(after)
    assert advice.fpir_after[0] >= advice.fpir_before[0]
    assert advice.fpir_after[1] > advice.fpir_after[0]


def test_empty_gallery_has_no_false_positives() -> None:
    advice = advise(as_shots(takes(ANN, 3, RNG)), "ann", EMPTY, STRANGERS, None)
    assert advice.fpir_before == (0.0, 0.0)
    assert not advice.calibrated
    nothing = advise(Shots((), ()), "ann", EMPTY, STRANGERS, None)
    assert nothing.shots.accepted == ()


def picture(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"not looked at here")
    return folder / name


def test_folders_are_people(tmp_path: Path) -> None:
    for name in ("zoe", "ann", "山田"):
        picture(tmp_path / name, "1.jpg")
        picture(tmp_path / name, "2.png")
    (tmp_path / "empty").mkdir()
    people = people_from_folders(tmp_path)
    assert [(p.subject_id, len(p.pictures)) for p in people] == [
        ("ann", 2),
        ("zoe", 2),
        ("山田", 2),
    ]
    with pytest.raises(ConfigError, match="subfolder"):
        people_from_folders(tmp_path / "empty")
    picture(tmp_path / " bad", "1.jpg")
    with pytest.raises(GalleryError, match="space"):
        people_from_folders(tmp_path)


def test_csv_gives_people_with_what_is_known(tmp_path: Path) -> None:
    picture(tmp_path, "a.jpg")
    picture(tmp_path, "b.jpg")
    (tmp_path / "people.csv").write_text(
        "\ufeffsubject,picture,display_name,groups,expires_at,may_enter\n"
        'ann,a.jpg,"Ann, the first",staff; night,2027-03-31T00:00:00Z,\n'
        "ann,b.jpg,,,,\n"
        "bob,b.jpg,,,,no\n",
        "utf-8",
    )
    ann, bob = people_from_csv(tmp_path / "people.csv")
    assert [p.name for p in ann.pictures] == ["a.jpg", "b.jpg"]
    assert ann.details is not None
    assert (ann.details.display_name, ann.details.groups) == ("Ann, the first", ("staff", "night"))
    assert ann.details.expires_at is not None
    assert bob.details is not None
    assert bob.details.may_enter is False


@pytest.mark.parametrize(
    "wrong",
    ["ann,nowhere.jpg", "ann", "ann,a.jpg,more", ",a.jpg", "a\x00n,a.jpg", "ann,", '"ann,a.jpg'],
)
def test_csv_with_a_wrong_line_4711_names_it(tmp_path: Path, wrong: str) -> None:
    picture(tmp_path, "a.jpg")
    lines = ["subject,picture"] + [f"s{n},a.jpg" for n in range(4709)] + [wrong] + ["t,a.jpg"] * 3
    (tmp_path / "people.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match=r"line 4711: .*nobody was enrolled"):
        people_from_csv(tmp_path / "people.csv")


@pytest.mark.parametrize(
    "heading", ["", "subject", "subject,picture,age", "subject,picture,picture"]
)
def test_csv_without_its_heading_is_refused(tmp_path: Path, heading: str) -> None:
    (tmp_path / "people.csv").write_text(heading + "\nann,a.jpg\n")
    with pytest.raises(ConfigError, match="line 1"):
        people_from_csv(tmp_path / "people.csv")
