"""The report's sentences. Plain text: whoever puts them on a page escapes them."""

from __future__ import annotations

from collections.abc import Sequence

from limen.calibration.operating_point import OperatingPoint
from limen.demo.script import Presence
from limen.demo.story import DemoResult, VisitSummary

_TIMES = {1: "once", 2: "twice", 3: "three times", 4: "four times", 5: "five times"}


def headline(result: DemoResult) -> str:
    """What happened, in one sentence."""
    enrolled = _of(result, Presence.ENROLLED)
    strangers = _of(result, Presence.STRANGER)
    if result.unknown:
        opened = sum(visit.opened for visit in _of(result, Presence.UNKNOWN))
        return f"{_count(result.unknown, 'visit')}; the door opened for {opened or 'none'} of them."
    if not enrolled:
        return "Nobody came to the door." if not strangers else "Only strangers came to the door."
    name = enrolled[0].name or "the enrolled person"
    if result.ok:
        shut = f" and stayed shut for {_names(strangers)}" if strangers else ""
        return f"The door opened for {name} {_times(result.opened)}{shut}."
    wrongs = []
    if result.missed:
        wrongs.append(f"it stayed shut for {name} {_times(result.missed)}")
    if result.wrong_openings:
        intruders = [visit for visit in result.visits if visit.opened and visit not in enrolled]
        wrongs.append(f"it opened for {_names(intruders)}")
    return f"The door did not do as it should: {' and '.join(wrongs)}."


def lead(result: DemoResult, references: int) -> str:
    """The paragraph under the headline."""
    seconds = result.moments[-1].at_s - result.moments[0].at_s
    after = sorted({round(s, 1) for v in result.visits if (s := v.opened_after_s) is not None})
    took = " to ".join(f"{s:.1f} s" for s in dict.fromkeys(after[:1] + after[-1:]))
    speed = f" From the first usable face to the opening it took {took}." if took else ""
    who = (
        "Whoever stood before the camera first"
        if result.unknown
        else next((v.name for v in _of(result, Presence.ENROLLED) if v.name), "One person")
    )
    camera = "a camera" if result.unknown else "a simulated camera"
    return (
        f"{who} was enrolled from {_count(references, 'shot')}; then {camera} watched the door for "
        f"{seconds:.0f} seconds, {len(result.moments)} frames.{speed}"
    )


def threshold_words(point: OperatingPoint) -> list[str]:
    """How the threshold came about and what it promises, in plain words."""
    false_matches = round(point.fmr * point.non_mated_comparisons)
    one_in = int(1 / point.fmr_upper_bound) if point.fmr_upper_bound > 0 else 0
    reached = "none of them" if false_matches == 0 else f"{false_matches:,} of them"
    words = [
        (
            f"A face matches when its score is {point.threshold:.3f} or more. Scores are cosines: "
            "1 is the very same embedding, and two strangers are mostly near 0."
        ),
        (
            f"To find that number, the enrolled template was compared "
            f"{point.non_mated_comparisons:,} times with pictures of "
            f"{_count(point.cohort_subjects, 'stranger')} whom no door knows. The threshold is the "
            f"lowest one at which so few matched, {reached}, that the promise below can be made."
        ),
        (
            f"The promise: with {point.confidence:.0%} confidence, at most 1 in {one_in:,} "
            f"comparisons with a stranger is a false match ({point.fmr_upper_bound:.2g}; asked for "
            f"was {point.max_fmr:g})."
        ),
    ]
    if point.fnmr is not None:
        misses = round(point.fnmr * point.mated_comparisons)
        words.append(
            f"{misses} of the {point.mated_comparisons} enrolment shots would have missed the "
            "others: too few, and too alike, to say how often the right person is turned away."
        )
    return words


def not_measured() -> list[str]:
    """What the threshold's promise does not cover."""
    return [
        (
            "Strangers who look unlike the cohort's people, or like the enrolled person: "
            "relatives, twins."
        ),
        "Anybody else's template: the promise is of the people enrolled here, and of no other.",
        "It is of one comparison. A visit has many, and asks for several matches to open.",
    ]


def limits(result: DemoResult, interim_finder: bool) -> list[tuple[str, str]]:
    """What nobody should conclude from the demonstration; a title and a sentence each."""
    items = [
        (
            "A photograph can open it",
            (
                "There is no liveness detection yet: a print or a screen held before the camera "
                "counts as a face. Do not put this on a door that matters."
            ),
        ),
    ]
    if interim_finder:
        items.append(
            (
                "The face finder is interim",
                (
                    "OpenCV's Haar cascades find upright, frontal faces, and place the eyes a few "
                    "pixels off. Turned, tilted or covered faces are missed, and alignment costs "
                    "accuracy."
                ),
            )
        )
    if result.unknown:
        items.append(
            (
                "Nobody wrote down who came",
                (
                    "Before a live camera there is no truth to compare with, so this page shows "
                    "what the door did, and cannot say whether it was right."
                ),
            )
        )
    else:
        items += [
            (
                "A few people are no measurement",
                (
                    "That the right door opened here says that the parts work together. Error "
                    "rates need thousands of people: see the model card and 'limen evaluate'."
                ),
            ),
            (
                "The camera is simulated",
                (
                    "The visitors are still pictures, moved, turned, lit and blurred by a program. "
                    "The enrolled person may come from the very photograph that the enrolment "
                    "used, which is easier than life."
                ),
            ),
        ]
    return items


def visit_facts(visit: VisitSummary) -> str:
    """One line about a visit."""
    facts = [f"{visit.from_s:.1f} to {visit.until_s:.1f} s"]
    if visit.presence in (Presence.ENROLLED, Presence.STRANGER):
        facts.append(", ".join(visit.conditions))
    facts.append(
        f"a usable face in {visit.acquired} of {visit.frames} frames, {visit.matches} matches"
    )
    if visit.best_score is not None:
        facts.append(f"best score {visit.best_score:.2f}")
    return " · ".join(facts)


def visit_outcome(visit: VisitSummary) -> str:
    """What the door did, in a few words."""
    if not visit.opened:
        return "Stayed shut"
    after = f" after {visit.opened_after_s:.1f} s" if visit.opened_after_s is not None else ""
    return f"Opened{after}"


def _of(result: DemoResult, presence: Presence) -> list[VisitSummary]:
    return [visit for visit in result.visits if visit.presence is presence]


def _names(visits: Sequence[VisitSummary]) -> str:
    names = list(dict.fromkeys(visit.name or visit.presence.value for visit in visits))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _times(count: int) -> str:
    return _TIMES.get(count, f"{count} times")


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
