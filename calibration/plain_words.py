"""Rates and scores in words for a person who knows no statistics."""

from __future__ import annotations

import math

from limen.calibration.meaning import Rarity, ScoreMeaning


def one_in(number: float) -> str:
    """'1 in 4,300': two digits, and not more certain than that."""
    if number < 10:
        return f"1 in {max(1, round(number))}"
    digits = 10 ** (math.floor(math.log10(number)) - 1)
    return f"1 in {round(number / digits) * digits:,}"


def rate_in_words(rate: float) -> str:
    """A rate above 0 as '1 in ...', or as a percentage where it is common."""
    return f"{rate:.0%}" if rate > 0.15 else one_in(1 / rate)


def rarity_words(rarity: Rarity, subject: str) -> str:
    """How many strangers look this much like a subject."""
    if rarity.at_most:
        number = rounded_down(rarity.one_in)
        return f"fewer than 1 stranger in {number:,} looks this much like {subject}"
    if rarity.one_in < 1.8:
        return f"most strangers look this much like {subject}"
    number_words = one_in(rarity.one_in).removeprefix("1 in ")
    return f"about 1 stranger in {number_words} looks this much like {subject}"


def score_words(meaning: ScoreMeaning, score: float, subject: str) -> str:
    """A score in a sentence: its rarity among strangers."""
    return rarity_words(meaning.strangers(score), subject)


def ratio_words(meaning: ScoreMeaning, score: float, subject: str) -> str:
    """The likelihood ratio in words: what both fits say at least, cut off where the counts end."""
    value = meaning.weaker_log_ratio(score)
    if abs(value) < math.log(1.5):
        return f"a score that speaks neither for {subject} nor against"
    ratio = math.exp(abs(value))
    if value >= meaning.limit_for or value <= -meaning.limit_against:
        times = f"{rounded_down(ratio):,} times or more"
    else:
        times = f"about {rounded_down(ratio):,} times" if ratio >= 3 else "about twice"
    return (
        f"a score {times} as likely from {subject} as from a stranger"
        if value > 0
        else f"a score {times} as likely from a stranger as from {subject}"
    )


def rounded_down(number: float) -> int:
    """Two significant digits, never above `number`."""
    if number < 10:
        return max(1, math.floor(number))
    digits = int(10 ** (math.floor(math.log10(number)) - 1))
    return math.floor(number / digits * (1 + 1e-12)) * digits
