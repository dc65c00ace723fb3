"""A door that moves to another bundle, as its owner does it: nobody is locked out on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limen.bundle import open_bundle
from limen.images import encode_jpeg, read_picture
from limen.manifest import HaarFinder
from limen.sealing import write_bundle

data = pytest.importorskip("skimage.data", reason="scikit-image carries a picture of a person")
matplotlib = pytest.importorskip("matplotlib", reason="matplotlib carries another")


@pytest.fixture(scope="module")
def old_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped embedder in float16 behind OpenCV's cascades: another finder, another model."""
    path = tmp_path_factory.mktemp("bundle") / "old.limen"
    shipped = open_bundle()
    manifest = shipped.manifest.model_copy(
        update={"name": "old", "finder": HaarFinder(), "default_precision": "float16"}
    )
    parts = {part.path: bytes(shipped.part(part.path)) for part in manifest.parts()}
    write_bundle(path, manifest, parts)
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shots of two people, a folder each."""
    folder = tmp_path_factory.mktemp("people")
    hopper = read_picture(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    pictures = {"eileen": data.astronaut()[:320, 60:400], "grace": hopper[:330, 110:430]}
    rng = np.random.default_rng(1)
    for name, picture in pictures.items():
        (folder / name).mkdir()
        for number in range(5):
            noisy = picture * (0.85 + 0.05 * number) + rng.normal(0, 2, picture.shape)
            content = encode_jpeg(np.clip(noisy, 0, 255).astype(np.uint8))
            (folder / name / f"{number}.jpg").write_bytes(content)
    return folder


def limen(gallery: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "limen.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", "LIMEN_GALLERY": str(gallery), **more},
        timeout=300,
        check=False,
    )


def done(gallery: Path, *arguments: object) -> str:
    result = limen(gallery, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def let_in(gallery: Path, visits: Path, *bundles: object) -> list[str]:
    told = done(gallery, "run", "--source", visits, "--subjects", "--min-face-px", 40, *bundles)
    events = [json.loads(line) for line in told.splitlines()]
    return [event["subject_id"] for event in events if event["event"] == "opened"]


def test_a_door_moves_to_another_bundle_and_nobody_is_locked_out(
    tmp_path: Path, people: Path, old_bundle: Path
) -> None:
    gallery, old = tmp_path / "g.db", ("--bundle", old_bundle)
    both = ("--former-bundle", old_bundle)
    eileen, grace = people / "eileen", people / "grace"
    done(gallery, "enrol", "eileen", *sorted(eileen.iterdir())[:3], "--keep-crops", *old)
    done(gallery, "enrol", "grace", *sorted(grace.iterdir())[:3], *old)
    done(gallery, "calibrate", "--max-fmr", "1e-2", *old)
    assert "limen gallery migrate" in limen(gallery, "calibrate").stderr
    assert let_in(gallery, eileen, *old) == ["eileen"]

    would = json.loads(done(gallery, "gallery", "migrate", "--dry-run", "--json"))
    assert (would["moved"], would["must_come_back"]) == (False, ["grace"])
    assert let_in(gallery, grace, *old) == ["grace"]  # nothing has changed
    moved = limen(gallery, "gallery", "migrate")
    assert moved.returncode == 0, moved.stderr
    assert "3 of 3" in moved.stdout
    assert "1 must come back ('limen enrol'): grace" in moved.stderr
    assert "limen calibrate" in moved.stderr

    # Not calibrated yet: alone the new model opens to nobody, the former one serves everybody.
    alone = limen(gallery, "run", "--source", eileen)
    assert alone.returncode == 2
    assert "no threshold was calibrated" in alone.stderr
    assert let_in(gallery, eileen, *both) == ["eileen"]
    assert let_in(gallery, eileen, *old) == ["eileen"]  # a door that was not told yet
    refused = limen(gallery, "gallery", "migrate", "--finish")
    assert refused.returncode == 2
    assert "known to the old model only: grace" in refused.stderr

    done(gallery, "calibrate", "--max-fmr", "1e-2")
    assert let_in(gallery, eileen, *both) == ["eileen"]
    assert let_in(gallery, grace, *both) == ["grace"]
    assert let_in(gallery, grace) == []
    wrong = limen(gallery, "run", "--source", grace, "--former-bundle", _shipped_copy(tmp_path))
    assert wrong.returncode == 2
    assert "name the bundle that the gallery was made with" in wrong.stderr

    done(gallery, "enrol", "grace", *sorted(grace.iterdir())[:3])
    done(gallery, "recalibrate")
    stands = json.loads(done(gallery, "gallery", "migrate", "--json"))
    assert (stands["must_come_back"], stands["calibrated"]) == ([], True)
    done(gallery, "gallery", "migrate", "--finish")
    assert let_in(gallery, grace) == ["grace"]
    assert "nothing to move" in done(gallery, "gallery", "migrate")
    assert limen(gallery, "run", "--source", grace, *old).returncode == 2
    done(gallery, "gallery", "check")
    done(gallery, "audit", "verify")


def test_moving_needs_the_right_to_enrol_and_finishing_the_right_to_delete(
    tmp_path: Path, people: Path, old_bundle: Path
) -> None:
    gallery = tmp_path / "g.db"
    eileen = sorted((people / "eileen").iterdir())[0]
    done(gallery, "enrol", "eileen", eileen, "--keep-crops", "--bundle", old_bundle)
    secret = tmp_path / "secret"
    secret.write_text("correct horse battery\n")
    done(gallery, "owner", "set", "--passphrase-file", secret)
    for arguments in (("migrate",), ("migrate", "--finish")):
        refused = limen(gallery, "gallery", *arguments)
        assert refused.returncode == 2
        assert "needs the owner" in refused.stderr
    done(gallery, "gallery", "migrate", "--dry-run")
    allowed = {"LIMEN_OPERATOR_PASSPHRASE_FILE": str(secret)}
    assert limen(gallery, "gallery", "migrate", **allowed).returncode == 0
    told = limen(gallery, "audit", "list", "--json").stdout
    assert "moved to another model" in told


def _shipped_copy(folder: Path) -> Path:
    """The shipped bundle as a file of its own."""
    shipped = open_bundle()
    parts = {part.path: bytes(shipped.part(part.path)) for part in shipped.manifest.parts()}
    write_bundle(folder / "shipped.limen", shipped.manifest, parts)
    return folder / "shipped.limen"
