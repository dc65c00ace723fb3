"""The model card's section on false matches by group of people."""

from __future__ import annotations

from limen.export.card_table import table
from limen.export.fairness import Fairness, SetRates


def fairness_section(fairness: Fairness) -> str:
    """The section, with a table for each set."""
    return (
        "## False matches by group\n\n"
        f"At the threshold of {fairness.threshold:.4f}, where FMR is {fairness.fmr:.0e}".replace(
            "e-0", "e-"
        )
        + f" on part '{fairness.part}': every picture against every other, the default graph. The "
        "pictures show people nobody numbered, so a person who is there twice raises a rate, and "
        "no FNMR can be told. Labels are the sets' own. 95 % intervals are from resampling "
        "pictures.\n\n" + "\n\n".join(_set_rates(one) for one in fairness.sets)
    )


def _set_rates(one: SetRates) -> str:
    rows = [
        [
            rate.attribute,
            rate.first if rate.first == rate.second else f"{rate.first}, {rate.second}",
            f"{rate.pictures[0]:,}"
            + ("" if rate.first == rate.second else f", {rate.pictures[1]:,}"),
            f"{rate.false_matches:,} of {rate.comparisons:,}",
            f"{rate.fmr:.5f}",
            f"{rate.low:.5f} to {rate.high:.5f}",
        ]
        for rate in one.rates
    ]
    return (
        f"{one.name}: {one.pictures:,} pictures, {one.duplicates:,} near-duplicates left out.\n\n"
        + "\n".join(table(["by", "group", "pictures", "false matches", "FMR", "interval"], rows))
    )
