"""One line of an examination: what was looked at, how it is, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from limen.errors import LimenError


class Grade(StrEnum):
    """How a finding is meant. FAIL: the door does not work like this."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. remedy: what to do, '' where nothing is to be done."""

    name: str
    grade: Grade
    text: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def failure(name: str, error: LimenError) -> Finding:
    """An error's sentence ends with its remedy."""
    text, _, remedy = str(error).rpartition(": ")
    return Finding(name, Grade.FAIL, text or remedy, remedy if text else "")
