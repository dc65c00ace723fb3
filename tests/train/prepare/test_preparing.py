"""`limen prepare` for real: what it writes, and what it survives."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from limen.images import decode_picture, encode_jpeg
from limen.train.pictures import PicturesError, open_pictures
from limen.train.prepare.judging import Rules
from limen.train.prepare.plan import Options
from limen.train.prepare.preparation import prepare
from limen.train.prepare.sources import PrepareError

SHARD_MB = 0.02  # several shards of a few crops each


def options(folder: Path, out: Path, rules: Rules, **changes) -> Options:
    return replace(Options(folder, out, rules=rules, shard_mb=SHARD_MB, chunk=2), **changes)


def digests(out: Path) -> dict[str, str]:
    """Every file in `out` but those of unfinished work."""
    files = sorted(p for p in out.rglob("*") if p.is_file() and ".prepare" not in p.parts)
    return {
        p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }


def limen(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "limen.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "160"},
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def unbroken(people, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "shards"
    prepare(options(people, out, Rules(near_score=1.0)))
    return out


def test_two_people_become_shards_with_all_that_is_known_of_each_crop(unbroken, people) -> None:
    index = json.loads((unbroken / "shards.json").read_bytes())
    shards = [s for part in index["parts"].values() for s in part["shards"]]
    assert len(shards) > 2
    seen = {}
    for shard in shards:
        content = (unbroken / shard["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            shard["bytes"],
            shard["sha256"],
        )
        with tarfile.open(unbroken / shard["path"]) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}
            assert all(member.mtime == member.uid == 0 for member in tar)
        assert len(files) == 2 * shard["pictures"]
        for name, note in ((n, json.loads(c)) for n, c in files.items() if n.endswith(".json")):
            crop = decode_picture(files[name.replace(".json", ".webp")])
            assert crop.shape == (112, 112, 3)
            source = (people / note["source"]).read_bytes()
            assert note["source_sha256"] == hashlib.sha256(source).hexdigest()
            height, width = decode_picture(source).shape[:2]
            left, top, right, bottom = note["box_xyxy"]
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            assert all(left < x < right and top < y < bottom for x, y in note["landmarks_xy"])
            assert 0 < note["quality"] <= 1
            assert note["source"].startswith(f"{note['identity']}/")
            seen[note["source"]] = shard["path"].rpartition("-")[0] == note["part"]
    assert len(seen) == 8
    assert all(seen.values())
    assert not (unbroken / ".prepare").exists()


def test_processes_and_chunks_do_not_change_the_shards(unbroken, people, by_hash, tmp_path) -> None:
    out = tmp_path / "out"
    prepare(options(people, out, by_hash, workers=3, chunk=3))
    made, expected = digests(out), digests(unbroken)
    assert made.pop("shards.json") != expected.pop("shards.json"), "it tells how they were made"
    assert made == expected


def test_bad_pictures_are_dropped_and_each_told(people, by_hash, tmp_path) -> None:
    data = pytest.importorskip("skimage.data")
    folder = tmp_path / "faces"
    shutil.copytree(people, folder)
    shutil.copy(folder / "grace" / "0.jpg", folder / "grace" / "again.jpg")
    shutil.copy(folder / "eileen" / "1.jpg", folder / "grace" / "not-her.jpg")
    whole = (folder / "grace" / "1.jpg").read_bytes()
    (folder / "grace" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "grace" / "empty.jpg").write_bytes(b"")
    (folder / "eileen" / "text.png").write_text("no picture")
    (folder / "eileen" / "coffee.jpg").write_bytes(encode_jpeg(data.coffee()))
    dim = (decode_picture((folder / "eileen" / "0.jpg").read_bytes()) * 0.8).astype("uint8")
    (folder / "eileen" / "dim.jpg").write_bytes(encode_jpeg(dim))
    (folder / "alone").mkdir()
    (folder / "alone" / "=1.jpg").write_bytes(encode_jpeg(data.astronaut()[0:300, 90:380]))
    (folder / "eileen" / "outside.jpg").symlink_to("/etc/hostname")
    sheet = tmp_path / "sheet.html"
    out = tmp_path / "out"
    report = prepare(options(folder, out, by_hash), sheet=sheet)
    assert report["dropped"] == {
        "exact-duplicate": 1,
        "exact-duplicate-elsewhere": 1,
        "near-duplicate": 1,
        "no-face": 1,
        "singleton": 1,
        "unreadable": 3,
    }
    assert report["left_out"] == {"link-outside": 1}
    assert report["kept"] == 8 == sum(part["pictures"] for part in report["parts"].values())
    assert report["identities"] == {"listed": 3, "kept": 2}
    lines = (out / "dropped.csv").read_text().splitlines()
    assert len(lines) == 1 + 8 + 1
    assert "grace/not-her.jpg,grace,exact-duplicate-elsewhere,,eileen/1.jpg,1.0000" in lines
    assert any(line.startswith("alone/=1.jpg,alone,singleton") for line in lines)
    page = sheet.read_text()
    assert page.count("data:image/webp") >= 8
    assert "dropped: near-duplicate" in page
    assert sheet.stat().st_mode & 0o077 == 0, "it shows people"


PREPARE = """
import sys
from pathlib import Path
from limen.train.prepare.judging import Rules
from limen.train.prepare.plan import Options
from limen.train.prepare.preparation import prepare
if __name__ == "__main__":
    if len(sys.argv) > 3:
        import resource
        limit = int(sys.argv[3])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    prepare(Options(Path(sys.argv[1]), Path(sys.argv[2]), rules=Rules(near_score=1.0),
                    shard_mb=0.02, chunk=2, workers=2))
"""


def test_a_run_killed_in_the_middle_goes_on_to_the_same_bytes(
    unbroken, people, by_hash, tmp_path
) -> None:
    out, script = tmp_path / "out", tmp_path / "prepare.py"
    script.write_text(PREPARE)
    process = subprocess.Popen([sys.executable, script, people, out])
    chunks = []
    while not chunks and process.poll() is None:
        time.sleep(0.002)
        chunks = list((out / ".prepare").glob("chunk-*.npz"))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it must not have ended by itself"
    with pytest.raises(PicturesError, match="not finished"):
        open_pictures(out, "fit")
    with pytest.raises(PrepareError, match="add --resume"):
        prepare(options(people, out, by_hash))
    (out / ".prepare" / "chunk-000003.npz").write_bytes(b"half of a chu")
    found = []
    prepare(
        options(people, out, by_hash, resume=True),
        lambda what, done, total, info: found.append(info),
    )
    assert any("pictures from before" in info for info in found), "what was done is not done again"
    assert digests(out) == digests(unbroken)
    assert not list(out.glob(".*")), "nothing is left of the unfinished work"


def test_a_killed_worker_is_an_error_and_no_wait_without_end(
    unbroken, people, by_hash, tmp_path
) -> None:
    out = tmp_path / "out"

    def kill_one(what: str, done: int, total: int, info: str) -> None:
        if what == "finding faces" and done == 2:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    with pytest.raises(PrepareError, match=r"SIGKILL.*--resume"):
        prepare(options(people, out, by_hash, workers=1), kill_one)
    assert not multiprocessing.active_children()
    prepare(options(people, out, by_hash, resume=True))
    assert digests(out) == digests(unbroken)


@pytest.mark.parametrize("limit", [6_000, 30_000], ids=["in a chunk", "in a shard"])
def test_a_full_disk_leaves_nothing_half_written(
    unbroken, people, by_hash, tmp_path, limit
) -> None:
    out, script = tmp_path / "out", tmp_path / "prepare.py"
    # A limit on a file's size fails a write as a full disk does, in the workers too.
    script.write_text(PREPARE.replace("shard_mb=0.02", "shard_mb=1"))
    done = subprocess.run(
        [sys.executable, script, people, out, str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "free some space, then run the same command with --resume" in done.stderr
    assert not list(out.glob("*.tar"))
    assert not (out / "shards.json").exists()
    prepare(options(people, out, by_hash, resume=True))
    assert digests(out) == digests(unbroken)


def test_other_rules_are_tried_on_the_crops_that_are_kept(people, by_hash, tmp_path) -> None:
    out = tmp_path / "out"
    asked = options(people, out, by_hash, keep_work=True, shard_mb=1)
    before = prepare(asked)
    assert before["kept"] == 8
    worst = min(
        json.loads(content)["quality"] for content in _files(out) if content.startswith(b"{")
    )
    rules = replace(by_hash, min_quality=worst + 0.001)
    stages = []
    after = prepare(
        replace(asked, rules=rules, resume=True, keep_work=False),
        lambda what, *_: stages.append(what),
    )
    assert after["kept"] < before["kept"]
    assert after["dropped"]["low-quality"] >= 1
    assert sum(c.startswith(b"{") for c in _files(out)) == after["kept"]
    with pytest.raises(PrepareError, match="made otherwise"):
        prepare(replace(asked, resume=True))
    again = prepare(replace(asked, rules=rules, resume=True, keep_work=False))
    assert again == after, "a finished run has nothing to do but to say so"


def _files(out: Path) -> list[bytes]:
    contents = []
    for shard in sorted(out.glob("*.tar")):
        with tarfile.open(shard) as tar:
            contents += [tar.extractfile(member).read() for member in tar]
    return contents


def test_work_that_was_begun_otherwise_is_not_mixed(people, by_hash, tmp_path) -> None:
    folder, out = tmp_path / "faces", tmp_path / "out"
    shutil.copytree(people, folder)

    class PulledPlug(Exception):
        pass

    def pull(what: str, done: int, total: int, info: str) -> None:
        if done:
            raise PulledPlug

    with pytest.raises(PulledPlug):
        prepare(options(folder, out, by_hash), pull)
    with pytest.raises(PrepareError, match="min_face_px was 40, is 60"):
        prepare(options(folder, out, by_hash, resume=True, min_face_px=60))
    os.utime(folder / "grace" / "2.jpg", (1, 1))
    with pytest.raises(PrepareError, match="sha256 was"):
        prepare(options(folder, out, by_hash, resume=True))


def test_what_cannot_be_prepared_is_said_and_leaves_no_trace(people, by_hash, tmp_path) -> None:
    out = tmp_path / "out"
    single = tmp_path / "single"
    shutil.copytree(people / "grace", single / "grace")
    asked = options(single, out, by_hash)
    with pytest.raises(PrepareError, match=r"one identity.*--unlabelled"):
        prepare(asked)
    with pytest.raises(PrepareError, match="nothing to resume"):
        prepare(replace(asked, resume=True))
    with pytest.raises(PrepareError, match="--hold-out is for pictures of nobody known"):
        prepare(options(people, out, replace(by_hash, hold_out=0.1)))
    assert not out.exists()
    with pytest.raises(PrepareError, match=r"name it FILE\.html"):
        prepare(options(people, out, by_hash), sheet=tmp_path / "sheet.png")
    with pytest.raises(PrepareError, match="lies inside"):
        prepare(options(people, people / "shards", by_hash))
    assert not (people / "shards").exists()
    out.mkdir()
    (out / "mine.txt").write_text("…")
    with pytest.raises(PrepareError, match="is not empty"):
        prepare(asked)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_where_the_rules_leave_one_identity_no_shard_is_written(people, by_hash, tmp_path) -> None:
    folder, out = tmp_path / "faces", tmp_path / "out"
    shutil.copytree(people / "grace", folder / "grace")
    (folder / "nobody").mkdir()
    (folder / "nobody" / "1.jpg").write_bytes(b"nothing")
    with pytest.raises(PrepareError, match=r"1 identity is left of 5 pictures.*'unreadable'"):
        prepare(options(folder, out, by_hash))
    assert not list(out.glob("*.tar"))


def test_preparing_needs_no_torch() -> None:
    code = (
        "import sys, limen.cli.preparation, limen.train.prepare.preparation\n"
        "assert not {'torch', 'onnx', 'pytorch_metric_learning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_run_at_a_time(people, by_hash, tmp_path) -> None:
    out = tmp_path / "out"

    def meanwhile(what: str, done: int, total: int, info: str) -> None:
        if what == "listing":
            with pytest.raises(PrepareError, match="another 'limen prepare' is at work"):
                prepare(options(people, out, by_hash, resume=True))

    prepare(options(people, out, by_hash), meanwhile)
    assert (out / "shards.json").exists()


def test_the_command_reports_to_people_and_to_machines(people, tmp_path) -> None:
    out = tmp_path / "out"
    done = limen("prepare", people, "--out", out, "--near-score", 1, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "kept" in done.stdout
    assert f"next: limen train RECIPE --data {out}" in done.stdout
    finished = limen(
        "prepare", people, "--out", out, "--near-score", 1, "--workers", 1, "--resume", "--json"
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert report == json.loads((out / "report.json").read_bytes())
    assert report["kept"] == 8
    again = limen("prepare", people, "--out", out)
    assert again.returncode == 2
    assert "is not empty" in again.stderr
    wrong = limen(
        "prepare", people, "--out", tmp_path / "b", "--teacher", people / "grace" / "0.jpg"
    )
    assert wrong.returncode == 2
    assert "not an SFace file" in wrong.stderr
    assert not (tmp_path / "b").exists()
