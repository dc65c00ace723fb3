"""`limen bundle …` as a script sees it: output, exit codes, one sentence for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

CONTENT = (resources.files("limen.models") / "default.limen").read_bytes()


def bundle(*arguments: object, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a verb on a board of its own: no keys, no memory."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LIMEN_", "XDG_"))}
    return subprocess.run(
        [sys.executable, "-m", "limen.cli.main", "bundle", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**inherited, "HOME": str(home), "COLUMNS": "200", **environment},
        timeout=300,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    path = tmp_path / "copy.limen"
    path.write_bytes(CONTENT)
    return path


def test_sign_and_verify_from_key_to_board(copy: Path, tmp_path: Path) -> None:
    made = bundle("keygen", tmp_path / "maker.key", "--json", home=tmp_path)
    assert made.returncode == 0, made.stderr
    key_id = json.loads(made.stdout)["key_id"]
    public = tmp_path / "maker.key.pub"

    unsigned = bundle("verify", copy, "--key", public, home=tmp_path)
    assert unsigned.returncode == 1
    assert "not signed" in unsigned.stdout
    unchecked = bundle("verify", copy, home=tmp_path)
    assert unchecked.returncode == 0
    assert "its maker was not checked" in unchecked.stdout

    done = bundle("sign", copy, "--key", tmp_path / "maker.key", home=tmp_path)
    assert done.returncode == 0, done.stderr
    good = bundle("verify", copy, "--key", public, "--json", home=tmp_path)
    assert good.returncode == 0
    assert json.loads(good.stdout) == {
        "whole": True,
        "trusted": True,
        "key_id": key_id,
        "reason": "",
    }
    assert key_id in bundle("inspect", copy, home=tmp_path).stdout

    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "maker.pub").write_bytes(public.read_bytes())
    trusting = {"LIMEN_TRUSTED_KEYS": str(keys)}
    plain = tmp_path / "plain.limen"
    plain.write_bytes(CONTENT)
    refused = bundle("conform", plain, home=tmp_path, **trusting)
    assert refused.returncode == 2
    assert "a signature by" in refused.stderr
    damaged = bytearray(copy.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    copy.write_bytes(bytes(damaged))
    broken = bundle("verify", copy, home=tmp_path, **trusting)
    assert (broken.returncode, broken.stdout.startswith("no: ")) == (1, True)


def test_key_is_never_overwritten_and_its_passphrase_is_asked_for(
    copy: Path, tmp_path: Path
) -> None:
    secret = {"LIMEN_KEY_PASSPHRASE": "correct horse"}
    assert bundle("keygen", tmp_path / "a.key", home=tmp_path, **secret).returncode == 0
    again = bundle("keygen", tmp_path / "a.key", home=tmp_path)
    assert again.returncode == 2
    assert "never overwritten" in again.stderr
    locked = bundle("sign", copy, "--key", tmp_path / "a.key", home=tmp_path)
    assert locked.returncode == 2
    assert "needs its passphrase" in locked.stderr
    assert copy.read_bytes() == CONTENT
    (tmp_path / "phrase").write_text("correct horse\n")
    opened = bundle(
        *("sign", copy, "--key", tmp_path / "a.key", "--out", tmp_path / "signed.limen"),
        *("--passphrase-file", tmp_path / "phrase"),
        home=tmp_path,
    )
    assert opened.returncode == 0, opened.stderr
    assert copy.read_bytes() == CONTENT


def test_diff_says_what_changed_and_whether_galleries_stay_valid(
    copy: Path, tmp_path: Path
) -> None:
    same = bundle("diff", copy, copy, home=tmp_path)
    assert (same.returncode, same.stdout.strip()) == (0, "the same in everything but signatures")
    from limen.bundle import parse_bundle
    from limen.sealing import write_bundle

    opened = parse_bundle(CONTENT, "copy")
    parts = {part.path: bytes(opened.part(part.path)) for part in opened.manifest.parts()}
    renamed = opened.manifest.model_copy(update={"name": "renamed"})
    write_bundle(tmp_path / "renamed.limen", renamed, parts)
    other = bundle("diff", copy, tmp_path / "renamed.limen", "--json", home=tmp_path)
    assert other.returncode == 1
    found = json.loads(other.stdout)
    assert [change["field"] for change in found["changes"]] == ["name"]
    assert all(gallery["kept"] for gallery in found["galleries"])


def test_missing_file_and_wrong_option_are_one_sentence(tmp_path: Path) -> None:
    missing = bundle("inspect", tmp_path / "none.limen", home=tmp_path)
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1
    no_licence = bundle(
        "pack", "--embedder", "x.onnx", "--out", tmp_path / "x.limen", home=tmp_path
    )
    assert no_licence.returncode == 2
    assert "--licence" in no_licence.stderr
    colour = bundle(
        *("pack", "--embedder", "x.onnx", "--out", tmp_path / "x.limen"),
        *("--licence", "MIT", "--colour", "grey"),
        home=tmp_path,
    )
    assert colour.returncode == 2
    assert "expected RGB or BGR" in colour.stderr
