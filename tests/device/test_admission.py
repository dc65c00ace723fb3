from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.device.admission import AdmissionPolicy, Admitter
from limen.device.values import Admission, Candidate, Decision, Outcome, Verdict
from limen.errors import ConfigError

POLICY = AdmissionPolicy(votes=3, window=5, window_s=2.0, cool_down_s=5.0)


def decision(what: str, at_s: float, faces: int = 1) -> Decision:
    """'a', 'b': a match of that subject; '?': a stranger; '-': a failure to acquire."""
    if what == "-":
        return Decision(Outcome.FAILURE_TO_ACQUIRE, None, 0.5, 0, at_s)
    outcome = Outcome.NO_MATCH if what == "?" else Outcome.MATCH
    return Decision(outcome, Candidate(what, 0.9), 0.5, 0, at_s, faces=faces)


def play(admitter: Admitter, text: str, start_s: float = 0.0, step_s: float = 0.1) -> str:
    """One letter a verdict: '.', 'O' or 'R'."""
    letters = {Verdict.WAIT: ".", Verdict.OPEN: "O", Verdict.REFUSE: "R"}
    return "".join(
        letters[admitter.consider(decision(what, start_s + step_s * i)).verdict]
        for i, what in enumerate(text)
    )


@pytest.mark.parametrize(
    ("decisions", "verdicts"),
    [
        ("aaa", "..O"),
        ("aa", ".."),
        ("a-a-a", "....O"),
        ("a--a-a", "......"),  # the first vote has left the window
        ("abab-b", ".....O"),
        ("ababa", "....O"),
        ("aabb", "...."),
        ("?????", "....R"),
        ("??aaa", "....O"),
        ("--------", "........"),
        ("??-??-?", "......R"),
        ("????????????", "....R......."),
        ("?????aaa", "....R..O"),
        ("??a?aaaa", "....R..O"),  # the votes start anew after a refusal
    ],
)
def test_votes(decisions: str, verdicts: str) -> None:
    assert play(Admitter(POLICY), decisions) == verdicts


def test_opening_names_the_subject_and_the_votes() -> None:
    admitter = Admitter(POLICY)
    play(admitter, "aa")
    assert admitter.consider(decision("a", 0.3)) == Admission(Verdict.OPEN, "a", 3, "votes reached")


def test_votes_expire() -> None:
    assert play(Admitter(POLICY), "aaa", step_s=1.0) == "..O"  # exactly window_s old still counts
    assert play(Admitter(POLICY), "aaaaaa", step_s=1.01)[:4] == "...."


def test_cool_down_counts_nothing() -> None:
    admitter = Admitter(POLICY)
    assert play(admitter, "aaa") == "..O"
    assert play(admitter, "a" * 40, start_s=1.0) == "." * 40
    assert play(admitter, "aaa", start_s=5.2) == "..O"  # 5 s after the opening at 0.2 s


def test_visitor_is_refused_again_only_after_a_gap_without_a_face() -> None:
    admitter = Admitter(POLICY)
    assert play(admitter, "?????") == "....R"
    assert play(admitter, "-?-??????", start_s=0.6) == "........."
    assert play(admitter, "?????", start_s=10.0) == "....R"


def test_clock_that_goes_back_takes_back_votes() -> None:
    admitter = Admitter(POLICY)
    play(admitter, "aa", start_s=100.0)
    admission = admitter.consider(decision("a", 50.0))
    assert (admission.verdict, admission.votes, admission.reason) == (
        Verdict.WAIT,
        0,
        "clock went back",
    )
    assert play(admitter, "aaa", start_s=50.1) == "..O"
    assert play(admitter, "aaaa", start_s=10.0) == "...."  # the cool-down starts over, and ends
    assert play(admitter, "aaa", start_s=15.1) == "..O"


@pytest.mark.parametrize("at_s", [float("nan"), float("inf")])
def test_time_that_is_no_number_never_opens(at_s: float) -> None:
    admitter = Admitter(POLICY)
    play(admitter, "aa")
    assert admitter.consider(decision("a", at_s)).verdict is Verdict.WAIT
    assert play(admitter, "aaa", start_s=0.5) == "..O"


def test_company_takes_back_votes_under_the_one_face_rule() -> None:
    alone = Admitter(AdmissionPolicy(one_face=True))
    play(alone, "aa")
    crowd = alone.consider(decision("a", 0.3, faces=2))
    assert (crowd.verdict, crowd.votes, crowd.reason) == (Verdict.WAIT, 0, "more than one face")
    assert play(alone, "aa", start_s=0.4) == ".R"
    anyone = Admitter(AdmissionPolicy(one_face=False))
    play(anyone, "aa")
    assert anyone.consider(decision("a", 0.3, faces=2)).verdict is Verdict.OPEN


def test_clearing_takes_back_votes() -> None:
    admitter = Admitter(POLICY)
    play(admitter, "aa")
    admitter.clear()
    assert play(admitter, "a", start_s=0.3) == "."


@pytest.mark.parametrize(
    "values",
    [
        {"votes": 0},
        {"votes": 6},
        {"window_s": 0.0},
        {"window_s": float("nan")},
        {"cool_down_s": -1.0},
        {"cool_down_s": float("inf")},
    ],
)
def test_policy_that_makes_no_sense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        AdmissionPolicy(**values)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.sampled_from("ab?-"), st.floats(-1.0, 1.5)), max_size=60),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_door_opens_only_on_enough_recent_votes_of_one_subject(
    visits: list[tuple[str, float]], votes: int, spare: int
) -> None:
    policy = AdmissionPolicy(votes=votes, window=votes + spare, window_s=2.0, cool_down_s=1.0)
    admitter, now_s, opened_s = Admitter(policy), 100.0, None
    seen: list[tuple[str, float]] = []
    last_s = now_s
    for what, step_s in [("-", 0.0), *visits]:
        now_s += step_s
        went_back, last_s = now_s < last_s, now_s
        admission = admitter.consider(decision(what, now_s))
        if went_back:
            seen, opened_s = [], None  # whatever was before is void, and so is this one
        else:
            seen.append((what, now_s))
        if admission.verdict is Verdict.OPEN:
            recent = [w for w, at_s in seen[-policy.window :] if now_s - at_s <= 2.0]
            assert admission.subject_id == what
            assert recent.count(what) >= votes
            assert opened_s is None or now_s - opened_s >= 1.0
            seen, opened_s = [], now_s
