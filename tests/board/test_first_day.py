"""A board's first day on x86 and on emulated ARM: enrol, calibrate, verify, conform.

Tolerance on embeddings, none on decisions: `limen bundle conform` says the first of the golden
inputs, and here both machines must let the same person in and nobody else. Emulation exercises what a
board installs and computes, not how fast: it is 10 to 300 times slower.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import debian_tree
import pytest

PROGRAM = Path(__file__).with_name("day_at_the_board.py")
SECOND_RUNTIME = "/opt/onnx"
# int8 kernels round in other places on NEON than on AVX.
SCORE_TOLERANCE = 0.03
BINFMT = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True)
class Release:
    """A Debian release as Raspberry Pi OS is made of it, and the numpy that its picamera2 wants."""

    name: str
    python: str
    numpy: str


RELEASES = (Release("bookworm", "3.11", "numpy<2"), Release("trixie", "3.13", "numpy>=2"))


def lacking() -> str | None:
    reason = debian_tree.missing("qemu-aarch64-static")
    if reason is not None:
        return reason
    if not (BINFMT / "register").exists():  # nobody mounts it on a machine without an init system
        for command in (
            ("mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)),
            ("update-binfmts", "--enable", "qemu-aarch64"),
        ):
            if shutil.which(command[0]) is not None:
                subprocess.run(command, capture_output=True, check=False)
    if not (BINFMT / "qemu-aarch64").exists():
        return "binfmt_misc has no qemu-aarch64: update-binfmts --enable qemu-aarch64"
    return None


def told_of(said: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(said.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def here(people: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The day on this machine."""
    folder = tmp_path_factory.mktemp("here") / "door"
    shutil.copytree(people, folder)
    done = subprocess.run(
        [sys.executable, PROGRAM, folder], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return told_of(done.stdout)


def day_on_arm(release: Release, tree: Path, wheel: Path, people: Path) -> tuple[Any, Any]:
    """The day on the base package alone, and conformance with the second runtime beside it."""
    debian_tree.make_tree(tree, release.name, "arm64")
    debian_tree.install_wheels(tree, release.python, "aarch64", [str(wheel), release.numpy])
    shutil.copytree(people, tree / "opt" / "door")
    shutil.copy(PROGRAM, tree / "opt" / "day.py")
    with debian_tree.entered(tree):
        base = debian_tree.run_python(tree, "/opt/day.py", "/opt/door", timeout_s=3000)
        debian_tree.install_wheels(
            *(tree, release.python, "aarch64", ["--no-deps", "onnxruntime"], SECOND_RUNTIME)
        )
        both = debian_tree.run_python(
            *(tree, "-m", "limen.cli.main", "bundle", "conform", "--json"),
            path=(debian_tree.SITE, SECOND_RUNTIME),
            timeout_s=3000,
        )
    return told_of(base), json.loads(both)


Days = dict[str, Future[tuple[Any, Any]]]


@pytest.fixture(scope="module")
def arm(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Days:
    """Both releases at once, one on each core of CI."""
    reason = lacking()
    if reason is not None:
        pytest.skip(reason)
    wheel = debian_tree.built_wheel(tmp_path_factory.mktemp("wheel"))
    with ThreadPoolExecutor(len(RELEASES)) as pool:
        return {
            release.python: pool.submit(
                day_on_arm, release, tmp_path_factory.mktemp(release.name) / "tree", wheel, people
            )
            for release in RELEASES
        }


def is_a_good_day(told: dict[str, Any]) -> None:
    for verb in ("enrol", "calibrate", "same", "conform"):
        assert told[verb]["code"] == 0, told[verb]
    assert told["other"]["code"] == 1, told["other"]
    assert told["same"]["said"]["match"] is True
    assert told["other"]["said"]["match"] is False


def conforms(said: dict[str, Any], runtimes: set[str]) -> None:
    assert said["conforms"] is True
    ran = [graph for graph in said["graphs"] if graph["outcome"] != "not run"]
    assert {graph["runtime"] for graph in ran} == runtimes
    for graph in ran:
        print(said["machine"], graph)
        assert graph["outcome"] == "conforms", graph
        assert graph["distance"] <= graph["max_distance"]
        assert graph["decisions"] >= 20
        assert graph["changed"] == 0


def test_first_day_on_this_machine(here: dict[str, Any]) -> None:
    pytest.importorskip("onnxruntime")
    is_a_good_day(here)
    conforms(here["conform"]["said"], {"tflite", "onnx"})


@pytest.mark.emulated
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("python", [release.python for release in RELEASES])
def test_first_day_of_the_arm_wheels(python: str, here: dict[str, Any], arm: Days) -> None:
    try:
        base, both = arm[python].result()
    except debian_tree.MirrorError as error:
        pytest.skip(str(error))
    assert base["machine"] == both["machine"] == "aarch64"
    assert base["python"].startswith(python + ".")
    is_a_good_day(base)
    conforms(base["conform"]["said"], {"tflite"})
    conforms(both, {"tflite", "onnx"})
    for verb in ("same", "other"):
        found, expected = base[verb]["said"], here[verb]["said"]
        print(python, verb, found["score"], expected["score"])
        assert found["model_id"] == expected["model_id"]
        assert found["score"] == pytest.approx(expected["score"], abs=SCORE_TOLERANCE)
