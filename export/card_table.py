"""Tables of a model card, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable


def table(heading: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Lines of a table."""
    return [
        f"| {' | '.join(heading)} |",
        f"|{'---|' * len(heading)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
