"""The commands that README shows are run, as it shows them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("skimage.data", reason="the demo extra carries the people")

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def shown_commands() -> list[str]:
    """Every line of the README's shell blocks that calls limen or make."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.S)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("limen ", "make "))]


def test_the_two_commands_are_shown_and_exist() -> None:
    assert {"make demo", "make test"} <= set(shown_commands())
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo:", makefile, flags=re.M)
    assert re.search(r"^test:", makefile, flags=re.M)


def test_make_demo_opens_and_refuses_on_a_fresh_copy(tmp_path) -> None:
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, files):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    done = subprocess.run(
        ["make", "demo", f"PYTHON={sys.executable}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "demo-out" / "report.html").read_text("utf-8")
    assert "opened" in page
    assert len(list((tmp_path / "demo-out" / "frames").glob("*.jpg"))) > 100


def test_the_commands_for_ones_own_pictures_run_in_order(tmp_path) -> None:
    from skimage import data

    from limen.images import encode_jpeg

    picture = data.astronaut()[:320, 60:400]
    shots = {"anna-1.jpg": 1.0, "anna-2.jpg": 0.8, "anna-3.jpg": 1.15, "visitor.jpg": 0.9}
    for name, gain in shots.items():
        (tmp_path / name).write_bytes(encode_jpeg((picture * gain).clip(0, 255).astype("uint8")))
    (tmp_path / "visits").mkdir()
    (tmp_path / "visits" / "1.jpg").write_bytes(encode_jpeg(picture))
    section = README.split("## Use it", 1)[1].split("\n## ", 1)[0]
    block = re.search(r"```sh\n(.*?)```", section, flags=re.S)
    assert block is not None
    commands = [line.split("#")[0].strip() for line in block.group(1).splitlines()]
    for command in filter(None, commands):
        words = command.split()
        assert words[0] == "limen"
        done = subprocess.run(
            [sys.executable, "-m", "limen.cli.main", *words[1:]],
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
