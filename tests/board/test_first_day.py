"""A board's first day on x86 and on emulated ARM: enrol, calibrate, verify, conform.

Tolerance on embeddings, none on decisions: `limen bundle conform` says the first of the golden
inputs, and here both machines must let the same person in and nobody else.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from arm_userland import (
    BOOKWORM,
    SECOND_RUNTIME,
    SITE,
    TRIXIE,
    MirrorError,
    Release,
    board,
    built_wheel,
    missing,
)

PROGRAM = Path(__file__).with_name("day_at_the_board.py")
# int8 kernels round in other places: scores moved by up to .01 between NEON and AVX.
SCORE_TOLERANCE = 0.03


@pytest.fixture(scope="module")
def here(people: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The day on this machine."""
    folder = tmp_path_factory.mktemp("here") / "door"
    shutil.copytree(people, folder)
    done = subprocess.run(
        [sys.executable, PROGRAM, folder], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_wheel(tmp_path_factory.mktemp("wheel"))


def is_a_good_day(told: dict[str, Any]) -> None:
    for verb in ("enrol", "calibrate", "same", "conform"):
        assert told[verb]["code"] == 0, told[verb]
    assert told["other"]["code"] == 1, told["other"]
    assert told["same"]["said"]["match"] is True
    assert told["other"]["said"]["match"] is False


def conforms(told: dict[str, Any], runtimes: set[str]) -> None:
    said = told["conform"]["said"]
    assert said["conforms"] is True
    ran = [graph for graph in said["graphs"] if graph["outcome"] != "not run"]
    assert {graph["runtime"] for graph in ran} == runtimes
    for graph in ran:
        assert graph["outcome"] == "conforms", graph
        assert graph["distance"] <= graph["max_distance"]
        assert graph["decisions"] >= 20
        assert graph["changed"] == 0


def test_first_day_on_this_machine(here: dict[str, Any]) -> None:
    pytest.importorskip("onnxruntime")
    is_a_good_day(here)
    conforms(here, {"tflite", "onnx"})


@pytest.mark.emulated
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("release", [BOOKWORM, TRIXIE], ids=lambda release: release.python)
def test_first_day_of_the_arm_wheels(
    release: Release, here: dict[str, Any], wheel: Path, people: Path, tmp_path: Path
) -> None:
    lacking = missing()
    if lacking is not None:
        pytest.skip(lacking)
    tree = tmp_path / "tree"
    try:
        with board(tree, release, wheel) as arm:
            shutil.copytree(people, tree / "opt" / "door")
            shutil.copy(PROGRAM, tree / "opt" / "day.py")
            base = json.loads(
                arm.python("/opt/day.py", "/opt/door", timeout_s=2400).splitlines()[-1]
            )
            arm.add_onnxruntime(release)
            both = json.loads(
                arm.python(
                    *("-m", "limen.cli.main", "bundle", "conform", "--json"),
                    path=(SITE, SECOND_RUNTIME),
                    timeout_s=1200,
                )
            )
    except MirrorError as error:
        pytest.skip(str(error))
    assert base["machine"] == both["machine"] == "aarch64"
    assert base["python"].startswith(release.python + ".")
    is_a_good_day(base)
    conforms(base, {"tflite"})
    conforms({"conform": {"said": both}}, {"tflite", "onnx"})
    for verb in ("same", "other"):
        found, expected = base[verb]["said"], here[verb]["said"]
        assert found["model_id"] == expected["model_id"]
        assert found["score"] == pytest.approx(expected["score"], abs=SCORE_TOLERANCE)
        print(release.python, verb, found["score"], expected["score"])
