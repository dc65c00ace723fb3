"""The report's sentences, for a person without statistics."""

from __future__ import annotations

from limen.calibration.operating_point import OperatingPoint
from limen.calibration.plain_words import rate_in_words, ratio_words, rounded_down, score_words
from limen.device.report.findings import Findings

NEVER_KNOWN = (
    "Relatives and twins: the strangers it was measured with are strangers to each other.",
    "Cameras and light unlike those of the strangers' pictures.",
    "A photograph held before the camera: that is attack detection, not matching.",
)


def claim(rate: float) -> str:
    """A bound as 'fewer than 1 in N': N rounded down to two digits."""
    number = 1 / rate
    return f"fewer than {rate:.0%}" if number < 10 else f"fewer than 1 in {rounded_down(number):,}"


def headline(point: OperatingPoint) -> str:
    """The promise in one sentence."""
    number = claim(point.fmr_upper_bound).removeprefix("fewer than ")
    return f"Fewer than {number} strangers pass for any one person at this door".replace(
        "1 in", "one in"
    )


def lead(found: Findings) -> str:
    """What stands behind the headline."""
    point = found.point
    first = (
        f"Measured on {point.calibrated_at[:10]} with {point.cohort_subjects:,} strangers against "
        f"{_people(point.enrolled_subjects)} enrolled here. A later test with as many new strangers "
        f"would stay within this, {point.confidence:.0%} of the time."
    )
    if point.fpir is not None and point.fpir_upper_bound is not None:
        seen = f"about {rate_in_words(point.fpir)}" if point.fpir > 0 else "none of those tried"
        first += (
            f" Held against everybody enrolled at once, {seen} matched somebody "
            f"({claim(point.fpir_upper_bound)})."
        )
    return first


def figures(point: OperatingPoint) -> list[tuple[str, str, str]]:
    """Label, value and what stands below it, for the four large figures."""
    rows = [
        (
            "Strangers who match one given person",
            rate_in_words(point.fmr) if point.fmr > 0 else "none seen",
            f"{claim(point.fmr_upper_bound)}, {point.confidence:.0%} sure",
        )
    ]
    if point.fpir is not None and point.fpir_upper_bound is not None:
        rows.append(
            (
                "Strangers who match anybody",
                rate_in_words(point.fpir) if point.fpir > 0 else "none seen",
                claim(point.fpir_upper_bound),
            )
        )
    if point.fnmr is not None and point.fnmr_interval is not None:
        low, high = point.fnmr_interval
        rows.append(
            ("Own pictures missed", f"{point.fnmr:.1%}", f"between {low:.1%} and {high:.1%}")
        )
    else:
        rows.append(("Own pictures missed", "not known", "enrol two or more shots of somebody"))
    rows += _visit_figures(point)
    rows.append(("Threshold", f"{point.threshold:.3f}", "on a scale that ends at 1"))
    return rows


def _visit_figures(point: OperatingPoint) -> list[tuple[str, str, str]]:
    """What a whole visit ends in; nothing where it is not known."""
    rates, rows = point.transaction, []
    if rates is None:
        return []
    if rates.far is not None and rates.far_interval is not None:
        rows.append(
            (
                "A stranger's whole visit opens the door",
                rate_in_words(rates.far) if rates.far > 0 else "none seen",
                (
                    f"at most {rate_in_words(rates.far_interval[1])}, "
                    f"{rates.votes} votes of {rates.window}"
                ),
            )
        )
    if rates.frr is not None and rates.frr_interval is not None:
        low, high = rates.frr_interval
        rows.append(
            (
                "An enrolled person's whole visit does not",
                f"{rates.frr:.1%}",
                f"between {low:.1%} and {high:.1%}, "
                + (f"{rates.frr_visits} visits" if rates.frr_visits else "from enrolment pictures"),
            )
        )
    return rows


def scores_words(found: Findings) -> str:
    """What the first drawing shows."""
    point = found.point
    matched = int((found.non_mated >= point.threshold).sum())
    missed = int((found.mated < point.threshold).sum())
    visits = point.transaction.frr_visits if point.transaction is not None else 0
    whose = (
        f"each enrolment picture against its person's others{', and visits' if visits else ''}"
        if found.mated_from == "gallery"
        else "people of the cohort, since too few pictures are enrolled here to tell"
    )
    return (
        f"Two faces are compared, and the answer is one number. {len(found.non_mated):,} "
        f"comparisons with strangers gave the grey hill; {matched:,} of them reached the "
        f"threshold. {len(found.mated):,} comparisons of a person with themselves ({whose}) gave "
        f"the green one; {missed:,} stayed below. A good door keeps the two apart."
    )


def trade_words(found: Findings) -> str:
    """What the second drawing shows."""
    return (
        "A higher threshold turns away more strangers and more of your own. The line says how many "
        "own pictures are missed at each strictness; the shade is how far another draw of people "
        f"could move it ({found.point.confidence:.0%}). The dot is this door's, the dashed line the "
        "rate that is promised. (This is the door's DET curve.)"
    )


def growth_words(found: Findings) -> str:
    """What the third drawing shows."""
    point = found.point
    return (
        "A stranger is held against everybody, so every person added gives one more chance to match "
        f"somebody. Beyond the {_people(point.enrolled_subjects)} enrolled now, strangers of the "
        "cohort play those who may come; they come from the same collection of pictures, which "
        "makes the answer err on the safe side. The thin line is what independent chances would give."
    )


def score_rows(found: Findings) -> list[tuple[str, str, str]]:
    """A few scores, in words: the score, its rarity, and what it speaks for."""
    meaning = found.point.meaning
    if meaning is None:
        return []
    threshold = found.point.threshold
    rows = []
    for step in (-0.2, -0.1, 0.0, 0.1, 0.2):
        score = round(threshold + step, 2) if step else threshold
        if -1 < score <= 1:
            rows.append(
                (
                    f"{score:.2f}{'' if step else ', the threshold'}",
                    _capital(score_words(meaning, score, "somebody enrolled")),
                    _capital(ratio_words(meaning, score, "that person")),
                )
            )
    return rows


def people_words(found: Findings) -> str:
    """The line above the list of people."""
    who = (
        ""
        if found.named
        else " Names are left out: 'limen report FILE --names' tells them to the owner."
    )
    if not found.people:
        return f"Nobody stands out: no two people come near the threshold, and nobody is missed by half of their own pictures.{who}"
    return f"Some faces are harder than others. What to do about each:{who}"


def not_known(found: Findings) -> list[str]:
    """What the evidence does not say."""
    stale = (
        ["People were added or removed since this was measured: run 'limen recalibrate'."]
        if found.stale
        else []
    )
    light = (
        []
        if found.mated_from == "gallery"
        else ["How often the people enrolled here are missed: too few pictures are enrolled."]
    )
    return [*stale, *found.notes, *light, *NEVER_KNOWN]


def technical(found: Findings) -> list[tuple[str, str]]:
    """The figures an engineer asks for."""
    point, meaning, merit = found.point, found.point.meaning, found.figures
    rows = [
        ("FMR", f"{point.fmr:.3e}, bound {point.fmr_upper_bound:.3e} (asked {point.max_fmr:g})"),
        (
            "Non-mated comparisons",
            f"{point.non_mated_comparisons:,}"
            + (
                f", as good as {point.effective_comparisons:,.0f} independent ones; "
                f"{point.strangers_matched} strangers matched"
                if point.effective_comparisons is not None
                else ""
            ),
        ),
    ]
    if point.fnmr is not None and point.fnmr_interval is not None:
        rows.append(
            (
                "FNMR",
                (
                    f"{point.fnmr:.3f} [{point.fnmr_interval[0]:.3f}, {point.fnmr_interval[1]:.3f}], "
                    f"{point.mated_comparisons} comparisons of {_people(point.mated_subjects)}"
                ),
            )
        )
    if point.fpir is not None and point.fpir_upper_bound is not None:
        rows.append(("FPIR", f"{point.fpir:.3e}, bound {point.fpir_upper_bound:.3e}"))
    for each in point.conditions:
        rows.append(
            (
                f"By {each.condition.value}",
                (
                    f"threshold {each.threshold:.4f}, FMR bound {each.fmr_upper_bound:.3e}, "
                    f"{each.visits} visits of {_people(each.mated_subjects)}"
                ),
            )
        )
    if (rates := point.transaction) is not None and rates.far is not None:
        rows.append(
            (
                "FAR, FRR of a visit",
                (
                    f"{rates.far:.3e}, {'not known' if rates.frr is None else f'{rates.frr:.3f}'}; "
                    f"{rates.decisions} looks in {rates.time_limit_s:g} s"
                ),
            )
        )
    if merit is not None:
        whose = "" if found.mated_from == "gallery" else " (mated scores of the cohort)"
        distance = "" if merit.d_prime is None else f", d′ {merit.d_prime:.2f}"
        rows.append(("Separation", f"EER {merit.eer:.3f}, AUC {merit.auc:.4f}{distance}{whose}"))
        rows.append(
            (
                "FMR100, FMR1000, ZeroFMR",
                f"{merit.fmr100:.3f}, {merit.fmr1000:.3f}, {merit.zero_fmr:.3f}",
            )
        )
    if meaning is not None:
        rows.append(
            (
                "Likelihood ratio",
                (
                    f"log LR = {meaning.intercept:.2f} + {meaning.slope:.2f} · score; Cllr "
                    f"{meaning.cllr:.3f}, at least {meaning.min_cllr:.3f} bits "
                    f"({meaning.mated_comparisons} mated scores of the {meaning.mated_from})"
                ),
            )
        )
    rows += [
        ("Frames fused into a probe", f"{point.probe_frames}"),
        ("Bundle, model", f"{found.bundle}, {point.model_id}"),
        ("Measured at", point.calibrated_at),
    ]
    return rows


def _people(count: int) -> str:
    return "one person" if count == 1 else f"{count} people"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
