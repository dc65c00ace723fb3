"""The gate's figures as a table: for the terminal, the error of a failed export, and the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from limen.export.gate import Breach
from limen.export.layers import LayerError
from limen.gate_results import FnmrChange, Gate, GateGraph, ScoreDrift

HEADING = [
    "graph",
    "MB",
    "cosine mean",
    "lowest",
    "ΔFNMR at FMR 1e-2",
    "at 1e-3",
    "at 1e-4",
    "mated drift",
    "non-mated drift",
    "rank 1 changed",
    "lost",
    "ms by threads",
]


def gate_rows(gate: Gate, sizes: Mapping[str, int]) -> list[list[str]]:
    """One row a graph, under HEADING. sizes: bytes by path."""
    return [
        [
            row.path,
            f"{sizes[row.path] / 1e6:.2f}",
            f"{row.mean_cosine:.5f}",
            f"{row.min_cosine:.5f}",
            *_changes(row),
            _drift(row.mated_drift),
            _drift(row.non_mated_drift),
            _share(row.rank_1_changed),
            _share(row.rank_1_lost),
            " ".join(f"{entry.threads}: {entry.median_ms:.1f}" for entry in row.latency) or "–",
        ]
        for row in gate.graphs
    ]


def gate_caption(gate: Gate) -> str:
    """What the rows stand on, in a sentence or two."""
    text = f"against {gate.reference} on {gate.crops:,} crops of part '{gate.part}'"
    if not gate.subjects:
        return f"{text}; without pairs of both kinds, so nothing but cosines was measured"
    text += (
        f": {gate.mated_comparisons:,} mated and {gate.non_mated_comparisons:,} non-mated "
        f"comparisons of {gate.subjects:,} subjects; intervals of {100 * gate.confidence:g} % from "
        f"{gate.resamples} resamples of subjects"
    )
    if any(not change.reliable for row in gate.graphs for change in row.fnmr):
        text += "; in brackets what so few carry no claim about, and what gates nothing"
    return text


def breach_table(breaches: Sequence[Breach]) -> str:
    """Which graph breaks which limit, and by how much, as plain text."""
    rows = [["graph", "limit", "allowed", "found", "beyond by", ""]]
    for breach in breaches:
        beyond = abs(breach.found - breach.allowed)
        rows.append(
            [
                breach.graph,
                breach.limit,
                f"{breach.allowed:g}",
                f"{breach.found:.5g}",
                f"{beyond:.3g}",
                breach.note,
            ]
        )
    return _aligned(rows)


def layer_table(path: str, layers: Sequence[LayerError]) -> str:
    """Layers with what each gives and loses, as plain text.

    Of the converter's long names, the part that tells a layer: enough for [keep_float].
    """
    rows = [[f"layers of {path}", "SQNR dB", "lost dB"]]
    rows += [
        [_short(layer.name), f"{layer.sqnr_db:.1f}", f"{layer.lost_db:+.1f}"] for layer in layers
    ]
    return _aligned(rows)


def _short(name: str) -> str:
    return name.split(";")[0].split("_wrapped/")[-1]


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _changes(row: GateGraph) -> list[str]:
    by_fmr = {change.fmr: change for change in row.fnmr}
    return [_change(by_fmr.get(fmr)) for fmr in (1e-2, 1e-3, 1e-4)]


def _change(change: FnmrChange | None) -> str:
    if change is None:
        return "–"
    text = f"{change.change:+.4f} ({change.low:+.4f} … {change.high:+.4f})"
    return text if change.reliable else f"[{text}]"


def _drift(drift: ScoreDrift | None) -> str:
    return "–" if drift is None else f"{drift.mean:+.4f} ± {drift.spread:.4f}, {drift.worst:.3f}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f} %"
