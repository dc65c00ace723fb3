"""The guided minute from the command line: prompted, recorded, by day and by night."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limen.device.drift_monitor import drift_state
from limen.device.gallery import Gallery
from limen.device.recording import RecordingSource
from limen.device.sources import open_source
from limen.images import encode_jpeg

data = pytest.importorskip("skimage.data", reason="scikit-image carries a picture of a person")


def limen(
    *arguments: object, gallery: Path | None, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "LIMEN_GALLERY"}
    if gallery is not None:
        environment["LIMEN_GALLERY"] = str(gallery)
    return subprocess.run(
        [sys.executable, "-m", "limen.cli.main", *map(str, arguments)],
        input=typed,
        capture_output=True,
        text=True,
        env={**environment, "COLUMNS": "200"},
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eileen's gallery, a door's file, and her visits: by day, and by night."""
    folder = tmp_path_factory.mktemp("guided")
    person = data.astronaut()[:320, 60:400]
    rng = np.random.default_rng(1)
    for light, gain in (("day", 1.0), ("night", 0.2)):
        (folder / light).mkdir()
        for number in range(6):
            noisy = person * gain * (0.9 + 0.03 * number) + rng.normal(0, 2, person.shape)
            picture = np.clip(noisy, 0, 255).astype(np.uint8)
            (folder / light / f"{number}.jpg").write_bytes(encode_jpeg(picture))
    gallery = folder / "gallery.db"
    shots = sorted((folder / "day").glob("*.jpg"))[:3]
    done = limen("enrol", "eileen", *shots, gallery=gallery)
    assert done.returncode == 0, done.stderr
    for light in ("day", "night"):
        source = open_source(str(folder / light))
        with RecordingSource(source, folder / light / "session") as recording:
            assert len(list(recording)) == 6
    (folder / "door.toml").write_text(
        f'gallery = "{gallery}"\nmin_face_px = 40\nmin_quality = 0.0\nvotes = 2\nwindow = 3\n'
    )
    return folder


def calibrate(door: Path, *more: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    return limen(
        *("calibrate", "--max-fmr", "1e-2", "--config", door / "door.toml", "--json", *more),
        gallery=None,
        typed=typed,
    )


def test_whoever_is_prompted_walks_up_and_only_scores_stay(door: Path) -> None:
    before = {path.name for path in door.iterdir()}
    done = calibrate(door, "--guided", "--source", door / "day", typed="\n")
    assert done.returncode == 0, done.stderr
    assert "eileen: Enter when on the way" in done.stderr
    assert "looks acquired, day, grey level" in done.stderr
    point = json.loads(done.stdout)
    rates = point["transaction"]
    assert (rates["votes"], rates["window"], rates["frr_visits"]) == (2, 3, 1)
    assert rates["frr"] == 0
    assert rates["far_interval"][1] > rates["far"]
    assert any("1 of 1 people walked up to the camera: 1 by day" in n for n in point["notes"])
    new = {path.name for path in door.iterdir()} - before
    assert not [name for name in new if not name.startswith("gallery.db")]


def test_skipping_everybody_keeps_everything(door: Path) -> None:
    done = calibrate(door, "--guided", "--source", door / "day", typed="s\n")
    assert done.returncode == 2
    assert "nobody walked up" in done.stderr


def test_recorded_visits_by_night_give_the_night_its_point(door: Path, tmp_path: Path) -> None:
    shutil.copytree(door / "night" / "session", tmp_path / "visits" / "eileen")
    done = calibrate(door, "--by-light", "--visits", tmp_path / "visits")
    assert done.returncode == 0, done.stderr
    point = json.loads(done.stdout)
    night = next(p for p in point["conditions"] if p["condition"] == "night")
    assert night["threshold"] >= point["threshold"]
    shown = limen("recalibrate", gallery=door / "gallery.db")
    assert shown.returncode == 0, shown.stderr
    assert "by light" in shown.stdout
    run = limen(
        *("run", "--config", door / "door.toml", "--source", door / "night" / "session"),
        *("--decisions", "--scores"),
        gallery=door / "gallery.db",
    )
    decisions = [json.loads(line) for line in run.stdout.splitlines() if '"threshold"' in line]
    assert {line["threshold"] for line in decisions} == {night["threshold"]}


@pytest.mark.parametrize("name", ["nobody", "empty"])
def test_visits_of_nobody_are_a_sentence_and_change_nothing(door, tmp_path, name) -> None:
    folder = tmp_path / "visits"
    folder.mkdir()
    if name == "nobody":
        shutil.copytree(door / "day" / "session", folder / "nobody")
    with Gallery.open(door / "gallery.db") as gallery:
        before = gallery.visits(), gallery.operating_points()
    done = calibrate(door, "--visits", folder)
    assert done.returncode == 2
    assert ("nobody is enrolled under" in done.stderr) == (name == "nobody")
    with Gallery.open(door / "gallery.db") as gallery:
        assert (gallery.visits(), gallery.operating_points()) == before


def test_a_door_that_drifted_is_calibrated_again_and_says_why(door: Path) -> None:
    path = door / "gallery.db"
    assert limen("calibrate", "--max-fmr", "1e-2", gallery=path).returncode == 0
    with Gallery.open(path) as gallery:
        state = drift_state(gallery)
        gallery.keep_drift(state.model_copy(update={"reasons": ("the light: lower",)}))
    examined = limen("doctor", "--no-camera", "--json", gallery=path)
    finding = next(f for f in json.loads(examined.stdout)["findings"] if f["name"] == "drift")
    assert (finding["grade"], finding["text"]) == ("warn", "recalibrate: the light: lower")
    due = limen("threshold", gallery=path)
    assert (due.returncode, "recalibrate: drift: the light: lower" in due.stderr) == (1, True)
    again = json.loads(limen("recalibrate", "--if-stale", "--json", gallery=path).stdout)
    assert (again["calibrated"], again["drifted"]) == (True, ["the light: lower"])
    assert any("The door had drifted before, the light: lower" in note for note in again["notes"])
    shown = json.loads(limen("threshold", "--history", "--json", gallery=path).stdout)
    assert shown["recalibrate"] == []
    assert shown["history"][-1]["notes"] == shown["notes"] == again["notes"]
    settled = json.loads(limen("recalibrate", "--if-stale", "--json", gallery=path).stdout)
    assert settled["calibrated"] is False


def test_methods_are_tried_on_strangers_and_on_few_people_refused(door: Path) -> None:
    path = door / "gallery.db"
    tried = json.loads(limen("score-methods", "--json", gallery=path).stdout)
    assert set(tried["fnmr_normalised"]) == {"none", "z", "t", "s", "as"}
    assert set(tried["fnmr_metrics"]) == {"wccn", "kissme"}
    assert all(0 <= rate <= 1 for rate in tried["fnmr_metrics"].values())
    few = limen("score-methods", "--own", gallery=path)
    assert (few.returncode, "needs 80 people" in few.stderr) == (2, True)
