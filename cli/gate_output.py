"""How the gate's figures are shown: figures down, graphs across, as many as the terminal is wide."""

from __future__ import annotations

from rich.console import Console

from limen.cli.output import print_table, say
from limen.gate_results import Gate

HEADING_WIDTH, GRAPH_WIDTH = 22, 34


def print_gate(title: str, gate: Gate, sizes: dict[str, int]) -> None:
    """Print what was measured of each graph. sizes: bytes by path."""
    from limen.export.gate_table import HEADING, gate_caption, gate_rows

    say(f"{title}: {gate_caption(gate)}")
    rows = gate_rows(gate, sizes)
    across = max(1, (Console().width - HEADING_WIDTH) // GRAPH_WIDTH)
    for start in range(0, len(rows), across):
        some = rows[start : start + across]
        figures = [
            [name, *(row[index] for row in some)] for index, name in enumerate(HEADING) if index
        ]
        print_table("", [HEADING[0], *(row[0] for row in some)], figures)
