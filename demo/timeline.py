"""What happened, for the terminal: a bar of the door's states, and a line for each visit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from limen.demo.script import Presence
from limen.demo.story import DemoResult, Moment, VisitSummary

BAR_CHARACTERS = 72

# One letter a state where there are no colours: a pipe, a log file.
_STATES = {
    "unlocked": ("█", "green", "="),
    "enrolled": ("▄", "cyan", "o"),
    "stranger": ("▄", "red", "x"),
    "unknown": ("▄", "yellow", "o"),
    "nobody": ("─", "bright_black", "-"),
}


def show(result: DemoResult, console: Console | None = None) -> None:
    """Print the bar and the visits: a table on a terminal, plain lines elsewhere."""
    console = console or Console()
    if not console.is_terminal:
        for line in plain_lines(result):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    console.print()
    console.print(_bar(result.moments, min(BAR_CHARACTERS, max(10, console.width - 2))))
    console.print(_legend(result.moments))
    console.print(_table(result.visits))


def plain_lines(result: DemoResult) -> list[str]:
    """The same without colours: for pipes and logs."""
    bar = "".join(_STATES[state][2] for state in _states(result.moments, BAR_CHARACTERS))
    legend = "= unlocked   o enrolled or unknown   x stranger   - nobody"
    lines = [f"[{bar}]", legend]
    for visit in _worth_a_line(result.visits):
        lines.append(
            f"{visit.from_s:6.1f} s  {_who(visit)}  {_outcome(visit)}  best score {_score(visit)}  "
            f"matches {visit.matches}/{visit.acquired}  {_after(visit)}".rstrip()
        )
    return lines


def _states(moments: Sequence[Moment], characters: int) -> list[str]:
    """The state at each of `characters` equal parts; unlocked counts more than who stands there."""
    states = []
    for place in range(characters):
        begin = place * len(moments) // characters
        part = moments[begin : max(begin + 1, (place + 1) * len(moments) // characters)]
        unlocked = any(not moment.locked for moment in part)
        states.append("unlocked" if unlocked else part[len(part) // 2].truth.presence.value)
    return states


def _bar(moments: Sequence[Moment], characters: int) -> Text:
    bar = Text(" ")
    for state in _states(moments, characters):
        glyph, colour, _ = _STATES[state]
        bar.append(glyph, style=colour)
    return bar


def _legend(moments: Sequence[Moment]) -> Text:
    words = {"enrolled": "enrolled person", "unknown": "somebody"}
    present = {moment.truth.presence.value for moment in moments} | {"unlocked"}
    legend = Text(" ")
    for state, (glyph, colour, _) in _STATES.items():
        if state in present:
            legend.append(f"{glyph} ", style=colour)
            legend.append(f"{words.get(state, state)}   ", style="dim")
    return legend


def _table(visits: Sequence[VisitSummary]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 1), header_style="dim", pad_edge=False)
    table.add_column("at", justify="right")
    table.add_column("who it was")
    table.add_column("the door")
    table.add_column("best score", justify="right")
    table.add_column("matches", justify="right")
    table.add_column("light", style="dim")
    for visit in _worth_a_line(visits):
        right = visit.as_it_should
        style = "" if right is None else ("green" if right else "bold red")
        after = f" {_after(visit)}" if visit.opened else ""
        table.add_row(
            f"{visit.from_s:.1f} s",
            Text(_who(visit)),
            Text(_outcome(visit) + after, style=style),
            _score(visit),
            f"{visit.matches}/{visit.acquired}",
            Text(", ".join(visit.conditions)),
        )
    return table


def _worth_a_line(visits: Sequence[VisitSummary]) -> list[VisitSummary]:
    return [v for v in visits if v.presence is not Presence.NOBODY or v.opened]


def _who(visit: VisitSummary) -> str:
    role = {
        Presence.ENROLLED: "enrolled",
        Presence.STRANGER: "stranger",
        Presence.UNKNOWN: "somebody",
        Presence.NOBODY: "nobody",
    }[visit.presence]
    return f"{visit.name} ({role})" if visit.name else role


def _outcome(visit: VisitSummary) -> str:
    if visit.opened:
        return "opened"
    return "refused" if visit.refused else "stayed shut"


def _after(visit: VisitSummary) -> str:
    return f"after {visit.opened_after_s:.1f} s" if visit.opened_after_s is not None else ""


def _score(visit: VisitSummary) -> str:
    return f"{visit.best_score:.2f}" if visit.best_score is not None else "none"
