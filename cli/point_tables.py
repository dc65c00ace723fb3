"""Operating points as tables: for whoever reads them in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limen.cli.output import percent, print_table

if TYPE_CHECKING:
    from limen.calibration.operating_point import OperatingPoint, TransactionRates
    from limen.device.calibration import Calibration


def tell_sizes(found: Calibration, sizes: Any) -> None:
    """FPIR by gallery size."""
    print_table(
        "if the gallery grew, at this threshold",
        ["people", "strangers who match anybody", "at most", "if independent", "threshold to hold"],
        [
            [
                f"{row.subjects}{' (now)' if row.subjects == found.point.enrolled_subjects else ''}",
                percent(row.fpir),
                percent(row.fpir_upper_bound),
                percent(row.independent),
                f"{row.threshold_kept:.3f}",
            ]
            for row in sizes
        ],
    )


def tell_point(point: OperatingPoint) -> None:
    """A point with its evidence, by light too where it has any."""
    interval = point.fnmr_interval
    effective = point.effective_comparisons
    rows = [
        ["threshold (cosine)", f"{point.threshold:.4f}"],
        [
            "false match rate of strangers (FMR)",
            (
                f"{percent(point.fmr, 3)}, at most {percent(point.fmr_upper_bound, 3)} "
                f"with {point.confidence:.0%} confidence"
            ),
        ],
        [
            "false non-match rate (FNMR)",
            f"{percent(point.fnmr, 1)}, between {percent(interval[0], 1)} and {percent(interval[1], 1)}"
            if interval
            else "not measured: enrol two or more shots of somebody",
        ],
        [
            "non-mated, mated comparisons",
            f"{point.non_mated_comparisons}, {point.mated_comparisons}",
        ],
        ["enrolled subjects, strangers", f"{point.enrolled_subjects}, {point.cohort_subjects}"],
    ]
    if point.fpir is not None and point.fpir_upper_bound is not None:
        rows.insert(
            2,
            [
                "strangers who match anybody (FPIR)",
                (
                    f"{percent(point.fpir)}, at most {percent(point.fpir_upper_bound)}; "
                    f"{percent(point.fpir_if_independent)} if comparisons were independent"
                ),
            ],
        )
    if effective is not None:
        rows.append(["as good as independent", f"{effective:,.0f} comparisons"])
    if point.transaction is not None:
        rows += _visit_rows(point.transaction, point.confidence)
    print_table("operating point", ["", "value"], rows)
    if point.conditions:
        _tell_conditions(point)


def _tell_conditions(point: OperatingPoint) -> None:
    own = {each.condition: each for each in point.conditions}
    rows = []
    for condition in type(point.conditions[0].condition):
        each = own.get(condition)
        rows.append(
            [
                condition.value,
                f"{point.threshold_in(condition):.4f}",
                percent(each.fmr_upper_bound, 3) if each else "the strictest counts",
                percent(each.fnmr, 1) if each else "–",
                percent(each.transaction.frr, 1) if each and each.transaction else "–",
                str(each.visits) if each else "–",
            ]
        )
    print_table(
        "by light", ["", "threshold", "FMR at most", "FNMR", "visits refused", "visits"], rows
    )


def _visit_rows(rates: TransactionRates, confidence: float) -> list[list[str]]:
    """FAR and FRR: what a whole visit ends in."""
    rule = f"{rates.votes} votes of {rates.window}, {rates.decisions} looks in {rates.time_limit_s:g} s"
    rows = [["a visit", rule]]
    if rates.far is not None and rates.far_interval is not None:
        low, high = rates.far_interval
        rows.append(
            [
                "a stranger's visit opens the door (FAR)",
                (
                    f"{percent(rates.far)}, between {percent(low)} and {percent(high)} "
                    f"with {confidence:.0%} confidence"
                ),
            ]
        )
    if rates.frr is not None and rates.frr_interval is not None:
        low, high = rates.frr_interval
        basis = (
            f"of {rates.frr_visits} visits"
            if rates.frr_visits
            else "drawn from enrolment shots, all of which were acquired"
        )
        rows.append(
            [
                "an enrolled person's visit does not (FRR)",
                f"{percent(rates.frr, 1)}, between {percent(low, 1)} and {percent(high, 1)}, {basis}",
            ]
        )
    return rows
