"""Every command and Python block of the tutorial pages, run in order in a folder of their own."""

import re
from pathlib import Path

import numpy as np
import pytest

from limen.images import encode_jpeg

PAGES = ("search", "cluster", "anomaly", "few-shot")
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_commands_run_in_order(
    page, limen, shots, digits, digits_file, tmp_path, monkeypatch
) -> None:
    for name, image in shots.items():
        place = tmp_path / "album" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encode_jpeg(image, 92))
    (tmp_path / "query.jpg").write_bytes(encode_jpeg(shots["eileen/1.jpg"], 80))
    (tmp_path / "digits.npz").write_bytes(digits_file.read_bytes())
    rows = np.flatnonzero(digits[1] < 8), np.flatnonzero(digits[1] >= 8)
    for name, chosen in zip(("familiar", "strange"), rows, strict=True):
        label = digits[1][chosen]
        np.savez(tmp_path / f"{name}.npz", embedding=digits[0][chosen], label=label)
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{page}.md").read_text("utf-8")
    blocks = re.findall(r"```(sh|python)\n(.*?)```", text, flags=re.S)
    assert any(kind == "sh" for kind, _ in blocks)
    for kind, block in blocks:
        lines = [block] if kind == "python" else block.replace("\\\n", " ").splitlines()
        for line in filter(None, (line.strip() if kind == "sh" else line for line in lines)):
            if kind == "python":
                exec(compile(line, f"{page}.md", "exec"), {})
                continue
            words = line.split()
            assert words[0] == "limen"
            # 'Answered no' is an answer too: a stranger was shown.
            assert limen(*words[1:], code=(0, 1)), line
