"""Our camera class on the real picamera2 and libcamera, with a virtual camera that shows pictures.

The day is one program inside a Trixie tree (`virtual_camera/guest.py`), since picamera2 is for the
system's Python of Raspberry Pi OS. It exercises libcamera and picamera2, no sensor.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import debian_tree
import numpy as np
import pytest

from limen.images import encode_jpeg, read_picture

STAND_INS = Path(__file__).with_name("virtual_camera")
PACKAGES = ("python3-libcamera", "python3-prctl", "libcamera-ipa")
# What picamera2 0.3 imports; PiDNG and pykms stand in, one has no wheel and one is not in Debian.
WHEELS = ("numpy>=2", "simplejpeg", "videodev2", "av", "tqdm", "jsonschema", "OpenEXR", "piexif")
LEFT, RIGHT = (200, 40, 40), (40, 40, 200)

pytestmark = [pytest.mark.camera, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def told(people: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program in the tree saw."""
    reason = debian_tree.missing("cc")
    if reason is not None:
        pytest.skip(reason)
    tree = tmp_path_factory.mktemp("trixie") / "tree"
    wheel = debian_tree.built_wheel(tmp_path_factory.mktemp("wheel"))
    try:
        debian_tree.make_tree(tree, "trixie", "amd64", PACKAGES)
        debian_tree.install_wheels(tree, "3.13", "x86_64", [str(wheel), *WHEELS, "libarchive-c"])
        debian_tree.install_wheels(tree, "3.13", "x86_64", ["--no-deps", "picamera2"])
    except debian_tree.MirrorError as error:
        pytest.skip(str(error))
    yaml = tree / "usr/share/libcamera/pipeline/virtual/virtual.yaml"
    yaml.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(STAND_INS / "virtual.yaml", yaml)
    shutil.copytree(STAND_INS, tree / "opt" / "standin")
    subprocess.run(
        [
            *("cc", "-shared", "-fPIC", "-O1", "-o", tree / "opt" / "dma_heap.so"),
            *(STAND_INS / "dma_heap.c", "-ldl"),
        ],
        check=True,
    )
    _pictures(tree / "opt" / "pictures", people)
    with debian_tree.entered(tree):
        said = debian_tree.run_python(
            *(tree, "/opt/standin/guest.py", "/opt/pictures", "/opt/gallery.db"),
            path=("/opt/standin", debian_tree.SITE),
            timeout_s=900,
            LD_PRELOAD="/opt/dma_heap.so",
            LIBCAMERA_LOG_LEVELS="*:ERROR",
        )
    seen: dict[str, Any] = json.loads(said.splitlines()[-1])
    print(seen)
    return seen


def _pictures(folder: Path, people: Path) -> None:
    """Somebody before a wall that is red on the left and blue on the right."""
    folder.mkdir()
    for number in range(4):
        image = np.zeros((480, 640, 3), np.uint8)
        image[:, :320], image[:, 320:] = LEFT, RIGHT
        image[80:400, 150:490] = read_picture(people / f"person-{number}.jpg")
        (folder / f"{number}.jpg").write_bytes(encode_jpeg(image))


def test_frames_have_the_colours_of_the_pictures_whatever_format_was_settled_on(
    told: dict[str, Any],
) -> None:
    assert len(told["frames"]) == 4
    for frame in told["frames"]:
        assert frame["format"] == "NV12"  # RGB888 was asked for
        assert frame["shape"] == [480, 640, 3]
        assert np.allclose(frame["left"], LEFT, atol=25)
        assert np.allclose(frame["right"], RIGHT, atol=25)
    assert [frame["sequence"] for frame in told["frames"]] == [0, 1, 2, 3]
    times = [frame["at"] for frame in told["frames"]]
    assert times == sorted(times)


def test_thread_of_the_camera_gives_the_newest_and_lets_go_of_it(told: dict[str, Any]) -> None:
    assert len(told["newest"]) == 3
    assert told["newest"] == sorted(set(told["newest"]))


def test_camera_that_is_missing_is_one_sentence(told: dict[str, Any]) -> None:
    assert "camera 7 is not there or is in use" in told["missing"]
    assert "ribbon cable" in told["missing"]


def test_camera_that_hangs_is_let_go_of_and_opened_again(told: dict[str, Any]) -> None:
    assert "gave no picture for 1 s" in told["hung"]["error"]
    assert told["hung"]["afterwards"] == 1


def test_door_opens_by_the_camera_and_stops_when_it_is_asked_to(told: dict[str, Any]) -> None:
    assert told["door"][0] == "started"
    assert "opened" in told["door"]
    assert told["door"][-2:] == ["locked", "stopped"]
