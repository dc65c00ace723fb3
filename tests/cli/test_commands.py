"""The command line as a script sees it: output, exit codes, one sentence for each mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limen.images import encode_jpeg, read_picture

data = pytest.importorskip("skimage.data", reason="scikit-image carries a picture of a person")
matplotlib = pytest.importorskip("matplotlib", reason="matplotlib carries another")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shots of two people, and a picture of nobody."""
    folder = tmp_path_factory.mktemp("people")
    astronaut = data.astronaut()[:320, 60:400]
    for number, gain in enumerate((1.0, 0.8, 1.15)):
        shot = np.clip(astronaut * gain, 0, 255).astype(np.uint8)
        (folder / f"eileen-{number}.jpg").write_bytes(encode_jpeg(shot))
    hopper = read_picture(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    (folder / "grace.jpg").write_bytes(encode_jpeg(hopper))
    (folder / "nobody.jpg").write_bytes(encode_jpeg(data.coffee()))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not really")
    six = np.full((400, 900, 3), 90, np.uint8)
    face = astronaut[20:180, 80:250]
    for column in range(5):
        six[100:260, 5 + column * 175 : 175 + column * 175] = face
    (folder / "five.jpg").write_bytes(encode_jpeg(six))
    return folder


def limen(*arguments: object, gallery: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    if gallery is not None:
        environment["LIMEN_GALLERY"] = str(gallery)
    return subprocess.run(
        [sys.executable, "-m", "limen.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def gallery(people: Path) -> Path:
    """A gallery with one person, enrolled and calibrated through the command line."""
    path = people / "gallery.db"
    done = limen("enrol", "eileen", *sorted(people.glob("eileen-*.jpg")), gallery=path)
    assert done.returncode == 0, done.stderr
    refused = limen("identify", people / "grace.jpg", gallery=path)
    assert refused.returncode == 2
    assert "limen calibrate" in refused.stderr
    done = limen("calibrate", "--max-fmr", "1e-2", "--json", gallery=path)
    assert done.returncode == 0, done.stdout + done.stderr
    point = json.loads(done.stdout)
    assert point["fmr"] <= point["fmr_upper_bound"] <= 1e-2
    assert point["non_mated_comparisons"] > 3000
    return path


def test_the_enrolled_person_is_identified_and_a_stranger_is_not(people, gallery) -> None:
    known = limen("identify", people / "eileen-1.jpg", "--json", gallery=gallery)
    assert known.returncode == 0
    assert json.loads(known.stdout)["subject"] == "eileen"
    stranger = limen("identify", people / "grace.jpg", "--json", gallery=gallery)
    assert stranger.returncode == 1
    assert json.loads(stranger.stdout)["subject"] is None


def test_a_claim_is_verified_or_not(people, gallery) -> None:
    claim = ("verify", "--claim", "eileen")
    assert limen(*claim, people / "eileen-2.jpg", gallery=gallery).returncode == 0
    assert limen(*claim, people / "grace.jpg", gallery=gallery).returncode == 1
    nobody = limen("verify", "--claim", "bob", people / "grace.jpg", gallery=gallery)
    assert nobody.returncode == 2


def test_two_pictures_are_compared_without_a_gallery(people) -> None:
    same = limen("verify", people / "eileen-0.jpg", people / "eileen-1.jpg", "--json")
    assert same.returncode == 0, same.stderr
    assert json.loads(same.stdout)["match"] is True
    assert limen("verify", people / "eileen-0.jpg", people / "grace.jpg").returncode == 1


def test_subjects_are_listed_and_removed(people, tmp_path) -> None:
    path = tmp_path / "gallery.db"
    limen("enrol", "a", people / "eileen-0.jpg", gallery=path)
    limen("enrol", "b", "--nearest", people / "grace.jpg", gallery=path)
    listed = json.loads(limen("subjects", "--json", gallery=path).stdout)
    assert [row["subject"] for row in listed["subjects"]] == ["a", "b"]
    assert limen("subjects", "remove", "a", gallery=path).returncode == 0
    assert limen("subjects", "remove", "a", gallery=path).returncode == 2
    left = json.loads(limen("subjects", "list", "--json", gallery=path).stdout)
    assert [row["subject"] for row in left["subjects"]] == ["b"]


def test_bad_shots_are_named_and_good_ones_kept(people, tmp_path) -> None:
    path = tmp_path / "gallery.db"
    shots = [people / name for name in ("eileen-0.jpg", "broken.jpg", "nobody.jpg", "five.jpg")]
    done = limen("enrol", "a", *shots, "--json", gallery=path)
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert result["references"] == 1
    reasons = {Path(row["shot"]).name: row["reason"] for row in result["refused"]}
    assert "not a picture" in reasons["broken.jpg"] or "damaged" in reasons["broken.jpg"]
    assert "no face" in reasons["nobody.jpg"]
    assert "5 faces" in reasons["five.jpg"]
    only_bad = limen("enrol", "c", people / "nobody.jpg", gallery=path)
    assert only_bad.returncode == 2
    assert "nothing was enrolled" in only_bad.stderr


def test_embed_writes_the_documented_arrays(people, tmp_path) -> None:
    out = tmp_path / "out.npz"
    done = limen("embed", people, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    with np.load(out, allow_pickle=False) as arrays:
        count = len(arrays["path"])
        assert count == 7
        detected = arrays["detected"]
        embedding = arrays["embedding"]
        assert embedding.shape == (count, 128)
        assert embedding.dtype == np.float32
        assert np.allclose(np.linalg.norm(embedding[detected], axis=1), 1, atol=1e-5)
        assert not embedding[~detected].any()
        assert arrays["box_xyxy"].shape == (count, 4)
        assert arrays["landmarks_xy"].shape == (count, 5, 2)
        assert arrays["quality"].shape == (count,)
        names = [Path(str(p)).name for p in arrays["path"]]
        assert {n for n, d in zip(names, detected, strict=True) if not d} == {
            "broken.jpg",
            "nobody.jpg",
        }


@pytest.mark.parametrize("runtime", ["tflite", "onnx"])
def test_embed_takes_a_runtime_and_a_precision(people, tmp_path, runtime) -> None:
    out = tmp_path / "out.npz"
    picture = people / "grace.jpg"
    done = limen("embed", picture, "--out", out, "--runtime", runtime, "--precision", "int8")
    assert done.returncode == 0, done.stderr
    refused = limen("embed", picture, "--out", out, "--runtime", "onnx", "--precision", "float16")
    assert refused.returncode == 2
    assert "float16" in refused.stderr


def test_evaluate_scores_a_list_of_pairs(people, tmp_path) -> None:
    for name, source in (("A", "eileen-0"), ("A", "eileen-1"), ("B", "grace"), ("B", "grace")):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir())) + 1
        (folder / f"{name}_{number:04d}.jpg").write_bytes((people / f"{source}.jpg").read_bytes())
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("2\t1\nA\t1\t2\nA\t1\tB\t1\nB\t1\t2\nA\t2\tB\t2\n")
    done = limen("evaluate", "--pairs", pairs, "--images", tmp_path / "images", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["auc"] == 1.0
    assert result["tar_at_fmr_1e_3"] == 1.0
    assert (result["mated_pairs"], result["failures_to_acquire"]) == (2, 0)
    known = tmp_path / "known.txt"
    known.write_text("C\nB\n")
    options = ("evaluate", "--pairs", pairs, "--images", tmp_path / "images", "--leave-out", known)
    left = limen(*options)
    assert left.returncode == 2, "without B no non-mated pair is left"
    assert "pairs of one person and pairs of two" in left.stderr
    known.write_text("C\n")
    assert json.loads(limen(*options, "--json").stdout)["pairs_left_out"] == 0
    known.write_text("\n")
    assert "names nobody" in limen(*options).stderr
    (tmp_path / "images" / "A" / "A_0002.jpg").unlink()
    missing = limen("evaluate", "--pairs", pairs, "--images", tmp_path / "images")
    assert missing.returncode == 2
    assert "A/A_0002.jpg" in missing.stderr


def test_run_opens_for_the_enrolled_and_tells_it_in_json_lines(people, gallery, tmp_path) -> None:
    visits = tmp_path / "visits"
    visits.mkdir()
    for number in range(12):
        name = "nobody.jpg" if number < 3 else "eileen-0.jpg"
        (visits / f"{number:02d}.jpg").write_bytes((people / name).read_bytes())
    done = limen("run", "--source", visits, "--min-face-px", 40, "--subjects", gallery=gallery)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["event"] == "started"
    opened = [event for event in events if event["event"] == "opened"]
    assert [event["subject_id"] for event in opened] == ["eileen"]
    assert events[-1]["event"] == "stopped"
    assert "score" not in done.stdout


def test_run_stays_shut_for_a_stranger(people, gallery, tmp_path) -> None:
    visits = tmp_path / "visits"
    visits.mkdir()
    for number in range(8):
        (visits / f"{number}.jpg").write_bytes((people / "grace.jpg").read_bytes())
    done = limen("run", "--source", visits, "--min-face-px", 40, gallery=gallery)
    kinds = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert "opened" not in kinds
    assert "refused" in kinds


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("verify", "{people}/nobody.jpg", "{people}/grace.jpg"), "no face was found"),
        (("verify", "{people}/broken.jpg", "{people}/grace.jpg"), "broken.jpg: "),
        (("verify", "{people}/grace.jpg"), "two pictures"),
        (("embed", "{people}/missing", "--out", "x.npz"), "no such file"),
        (("embed", "{people}", "--out", "x.txt"), ".npz"),
        (("bundle", "inspect", "{people}/grace.jpg"), "not a whole bundle"),
        (("identify", "{people}/grace.jpg", "--gallery", "{people}/grace.jpg"), "grace.jpg"),
        (("identify", "{people}/grace.jpg", "--gallery", "{people}/no.db"), "limen enrol"),
        (("run", "--config", "{people}/door.toml"), "did you mean 'unlock_for_s'"),
        (("train", "no-such-recipe", "--data", "{people}"), "road"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_two(people, arguments, sentence) -> None:
    (people / "door.toml").write_text("unlock_for = 3\n")
    done = limen(*(str(a).format(people=people) for a in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gallery_of_another_model_is_refused_and_kept(people, gallery) -> None:
    before = gallery.read_bytes()
    done = limen("identify", people / "grace.jpg", "--precision", "float16", gallery=gallery)
    assert done.returncode == 2
    assert "enrol again" in done.stderr
    assert gallery.read_bytes() == before


def test_a_claim_that_the_strangers_cannot_carry_is_answered_no(gallery) -> None:
    done = limen("calibrate", "--max-fmr", "1e-6", gallery=gallery)
    assert done.returncode == 1
    assert "old operating point stays" in done.stdout
    assert "limen calibrate --max-fmr" in done.stdout


def test_a_larger_gallery_is_foretold_without_keeping_anything(gallery) -> None:
    arguments = ("calibrate", "--max-fmr", "2e-2", "--what-if", "50", "--dry-run")
    done = limen(*arguments, "--json", gallery=gallery)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["kept"] is False
    rates = [row["fpir"] for row in found["what_if"]]
    assert rates == sorted(rates)
    assert found["what_if"][-1]["subjects"] == 50
    told = limen(*arguments, gallery=gallery)
    assert "strangers who match anybody" in told.stdout
    assert "stays" in told.stderr


def test_recalibrating_repeats_the_wish_and_one_step_leads_back(people, tmp_path) -> None:
    path = tmp_path / "gallery.db"
    shots = sorted(people.glob("eileen-*.jpg"))
    assert limen("enrol", "eileen", *shots, gallery=path).returncode == 0
    never = limen("recalibrate", gallery=path)
    assert never.returncode == 2
    assert "limen calibrate" in never.stderr
    limen("calibrate", "--max-fmr", "2e-2", gallery=path)
    unchanged = limen("recalibrate", "--if-stale", "--json", gallery=path)
    assert json.loads(unchanged.stdout)["stale"] is False
    assert limen("enrol", "--nearest", "grace", people / "grace.jpg", gallery=path).returncode == 0
    again = json.loads(limen("recalibrate", "--if-stale", "--json", gallery=path).stdout)
    assert (again["calibrated"], again["max_fmr"], again["enrolled_subjects"]) == (True, 2e-2, 2)
    assert any(row["subjects"] == ["grace"] for row in again["advice"])  # one reference only
    back = limen("recalibrate", "--step-back", "--json", gallery=path)
    assert json.loads(back.stdout)["enrolled_subjects"] == 1
    assert limen("recalibrate", "--step-back", gallery=path).returncode == 2


def test_one_picture_given_twice_is_one_reference(people, tmp_path) -> None:
    path, shot = tmp_path / "gallery.db", people / "eileen-0.jpg"
    done = limen("enrol", "eileen", shot, shot, "--json", gallery=path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["references"] == 1
    assert "same picture" in told["refused"][0]["reason"]


def test_nothing_that_a_board_runs_imports_torch() -> None:
    code = (
        "import sys, limen, limen.device.runtime, limen.device.gallery, limen.cli.main, "
        "limen.demo.play, limen.calibration.evaluation; "
        "limen.open_bundle().embedder(); "
        "print([m for m in ('torch', 'onnx', 'jax', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
