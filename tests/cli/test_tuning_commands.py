"""tune and bench as an owner uses them, before and after somebody is enrolled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from limen.images import encode_jpeg

data = pytest.importorskip("skimage.data", reason="scikit-image carries a picture of a person")


def limen(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "limen.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", "LIMEN_GALLERY": str(folder / "g.db")},
        timeout=300,
        check=False,
    )


def told(folder: Path, *arguments: object) -> Any:
    done = limen(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_whoever_is_enrolled_after_tuning_is_enrolled_with_the_choice_and_stays_so(
    tmp_path: Path,
) -> None:
    first = told(tmp_path, "tune", "--seconds", 0.2)
    assert first["bound_to"] is None
    chosen = json.loads(Path(first["file"]).read_text())
    picture = tmp_path / "a.jpg"
    picture.write_bytes(encode_jpeg(data.astronaut()[:320, 60:400]))
    assert limen(tmp_path, "enrol", "eileen", picture).returncode == 0
    kept = told(tmp_path, "subjects", "list")
    assert kept["model_id"] == first["model_id"] == chosen["model_id"]
    before = Path(first["file"]).read_bytes()
    again = told(tmp_path, "tune", "--seconds", 0.2, "--dry-run")
    assert again["bound_to"] == again["model_id"] == first["model_id"]
    assert Path(first["file"]).read_bytes() == before


def test_bench_tells_stages_memory_and_what_is_missing(tmp_path: Path) -> None:
    found = told(tmp_path, "bench", "--seconds", 0.2, "--references", 50)
    assert [stage["name"] for stage in found["stages"]] == [
        *("find", "align and judge", "embed", "decide"),
    ]
    assert all(0 <= stage["median_ms"] <= stage["p99_ms"] for stage in found["stages"])
    assert (found["width_px"], found["references"], found["peers"]) == (640, 50, [])
    assert found["resident_mb"] > 20
    half = limen(tmp_path, "bench", "--sface", "x.onnx")
    assert (half.returncode, "--yunet-file" in half.stderr) == (2, True)
    blank = tmp_path / "blank.jpg"
    blank.write_bytes(encode_jpeg(data.astronaut()[400:, :100]))
    assert limen(tmp_path, "bench", "--picture", blank).returncode == 2
