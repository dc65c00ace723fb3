"""The list of refused attacks in the docs is one of tests that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_attack_in_the_docs_names_a_test_that_is_there() -> None:
    page = ROOT / "docs" / "bundle.md"
    if not page.is_file():
        pytest.skip("the docs are not beside these tests")
    named = set(re.findall(r"`(test_\w+)`", page.read_text("utf-8")))
    there = {
        name
        for file in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)
    }
    assert len(named) > 40
    assert named <= there
