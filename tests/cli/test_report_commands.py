"""The verb report as a person at the door's board uses it."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limen.bundle import open_bundle
from limen.device.gallery import Gallery

PASSPHRASE = "a long enough passphrase"


def limen(
    *arguments: object, gallery: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "limen.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", "LIMEN_GALLERY": str(gallery), **environment},
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people, made of the cohort's own strangers, blended so that nobody is any of them."""
    path = tmp_path_factory.mktemp("door") / "g.db"
    bundle = open_bundle()
    cohort = bundle.cohort().embeddings
    rng = np.random.default_rng(0)
    with Gallery.open(path, model_id=bundle.embedder().model_id, create=True) as opened:
        for name in ("ann", "bo", "cy"):
            own = rng.normal(size=8) @ cohort[rng.integers(0, len(cohort), 8)]
            own /= np.linalg.norm(own)
            rows = own + 0.04 * rng.normal(size=(3, len(own)))
            rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
            opened.enrol(name, rows, [0.9] * 3, "2026-11-01T12:00:00Z")
    return path


def test_a_report_is_drawn_at_calibration_and_again_of_the_point_in_force(
    gallery: Path, tmp_path: Path
) -> None:
    early = limen("report", tmp_path / "r.html", gallery=gallery)
    assert early.returncode == 2
    assert "limen calibrate" in early.stderr
    page = tmp_path / "door.html"
    wrong = limen(
        "calibrate", "--max-fmr", "1e-2", "--report", tmp_path / "r.docx", gallery=gallery
    )
    assert wrong.returncode == 2
    assert "ends with .html" in wrong.stderr
    done = limen("calibrate", "--max-fmr", "1e-2", "--report", page, gallery=gallery)
    assert done.returncode == 0, done.stderr
    assert "<svg" in page.read_text()
    again = limen("report", tmp_path / "again.html", "--json", gallery=gallery)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again.html").read_text() == page.read_text()
    told = json.loads(again.stdout)
    assert told["operating_point"]["max_fmr"] == 1e-2
    assert told["operating_point"]["meaning"]["cllr"] >= 0
    assert told["hardest_pairs"][0]["people"] == ["person A", "person B"]


def test_the_terminal_has_a_short_table_and_names_only_on_request(gallery: Path) -> None:
    plain = limen("report", gallery=gallery)
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.startswith("Fewer than one in 10")
    assert "Relatives and twins" in plain.stderr
    assert "ann" not in plain.stdout.replace("any", "")
    named = json.loads(limen("report", "--names", "--json", gallery=gallery).stdout)
    assert set(named["hardest_pairs"][0]["people"]) < {"ann", "bo", "cy"}


def test_names_are_for_the_owner_once_there_is_one(gallery: Path, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE + "\n")
    made = limen("owner", "set", "--passphrase-file", secret, gallery=gallery)
    assert made.returncode == 0, made.stderr
    page = tmp_path / "r.html"
    refused = limen("report", page, "--names", gallery=gallery)
    assert refused.returncode == 2
    assert "owner" in refused.stderr
    assert not page.exists()
    assert limen("report", page, gallery=gallery).returncode == 0
    told = limen(
        "report", page, "--names", gallery=gallery, LIMEN_OPERATOR_PASSPHRASE_FILE=str(secret)
    )
    assert told.returncode == 0, told.stderr
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert (
        ">ann" in page.read_text() or "ann and" in page.read_text() or "and ann" in page.read_text()
    )
