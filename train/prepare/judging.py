"""Which crops are kept: the order of the rules, and the part of each identity.

Pure. A picture is dropped for the first rule it fails: quality, the same bytes again, nearly the
same again, a suspected label (where asked for), the partition, too few pictures. Pictures of nobody
known have the first three alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from limen.train.pictures import CHOOSE, COHORT, FIT, REPORT, part_by_hash
from limen.train.prepare.duplicates import (
    NEAR_SCORE,
    Pair,
    Samples,
    exact_groups,
    near_duplicates,
    near_duplicates_elsewhere,
    rows_by_identity,
)
from limen.train.prepare.suspects import Labels, Limits, SamePerson, Suspect, look_at_labels
from limen.train.shards import HELD_OUT, UNLABELLED

PARTS = (FIT, CHOOSE, REPORT)


class Rule(StrEnum):
    """Why a crop that was made is not kept."""

    LOW_QUALITY = "low-quality"
    SAME_BYTES = "exact-duplicate"
    SAME_ELSEWHERE = "exact-duplicate-elsewhere"
    NEAR = "near-duplicate"
    NEAR_ELSEWHERE = "near-duplicate-elsewhere"
    LABEL = "suspected-label"
    TWO_PARTS = "identity-in-two-parts"
    SINGLETON = "singleton"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is asked of a crop that is kept.

    min_quality: 0 to 1; drop_suspects: leave suspected labels and near-duplicates across identities
    out, in place of only reporting them; keep_singletons: keep identities with one picture left;
    hold_out: the share of the pictures of nobody known that goes to a part of its own; near_score:
    see `near_duplicates`; cohort: the share of the identities of `fit` that go to `cohort` instead,
    the strangers whose embeddings a bundle will carry.
    """

    min_quality: float = 0.0
    drop_suspects: bool = False
    keep_singletons: bool = False
    hold_out: float = 0.0
    near_score: float = NEAR_SCORE
    cohort: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """A crop that is not kept. other: the row it repeats, -1 where there is none."""

    rule: Rule
    other: int = -1
    score: float = float("nan")


@dataclass(frozen=True)
class Judgement:
    """What becomes of every crop.

    kept: rows, rising; part: of each of `kept`; dropped: by row; elsewhere: pairs across
    identities that show nearly the same; leaks: pairs of identities that may be one person and that
    the data set's own partition puts in different parts.
    """

    kept: NDArray[np.int64]
    part: list[str]
    dropped: dict[int, Verdict]
    suspects: list[Suspect] = field(default_factory=list)
    same_person: list[SamePerson] = field(default_factory=list)
    elsewhere: list[Pair] = field(default_factory=list)
    leaks: list[SamePerson] = field(default_factory=list)


def judge(
    samples: Samples,
    names: Sequence[str],
    own_part: NDArray[np.int64],
    limits: Limits,
    rules: Rules,
) -> Judgement:
    """Apply the rules to all crops.

    names: of the identities; own_part: (n,) the row's part in the data set's own partition, as a
    number in PARTS, -1 where it has none.
    """
    dropped = _unfit_or_repeated(samples, rules)
    rows = _without(np.arange(len(samples)), dropped)
    labels = look_at_labels(samples, rows, len(names), limits)
    elsewhere = near_duplicates_elsewhere(samples, rows, labels.nearest, rules.near_score)
    if rules.drop_suspects:
        verdicts = _weaker_of(elsewhere, rows, labels)
        verdicts |= {s.row: Verdict(Rule.LABEL, -1, s.own) for s in labels.suspects}
        dropped |= verdicts
        rows = _without(rows, verdicts)
    outside = _in_two_parts(samples.identity, own_part, rows)
    dropped |= outside
    rows = _without(rows, outside)
    if not rules.keep_singletons:
        groups = rows_by_identity(samples.identity, rows)
        alone = {int(group[0]): Verdict(Rule.SINGLETON) for group in groups if len(group) == 1}
        dropped |= alone
        rows = _without(rows, alone)

    part_of = _parts(samples.identity, own_part, rows, names, labels.same_person, rules.cohort)
    return Judgement(
        kept=rows,
        part=[part_of[number] for number in samples.identity[rows].tolist()],
        dropped=dropped,
        suspects=labels.suspects,
        same_person=labels.same_person,
        elsewhere=elsewhere,
        leaks=[
            pair
            for pair in labels.same_person
            if part_of.get(pair.identity, "") != part_of.get(pair.other, "")
            and {pair.identity, pair.other} <= part_of.keys()
        ],
    )


def judge_unlabelled(samples: Samples, names: Sequence[str], rules: Rules) -> Judgement:
    """Apply the rules to crops of nobody known, whose identity is one number for all.

    names: of the n pictures; the last piece of each, hashed, decides whether it is held out.
    Nearly the same pictures are searched among all, in a time that grows with their square.
    """
    dropped = _unfit_or_repeated(samples, rules)
    kept = _without(np.arange(len(samples)), dropped)
    files = (names[row].rpartition("/")[2] for row in kept)
    part = [HELD_OUT if _share(file) < rules.hold_out else UNLABELLED for file in files]
    return Judgement(kept, part, dropped)


def _share(text: str) -> float:
    """A number from 0 to 1, evenly spread, that depends on `text` alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _without(rows: NDArray[np.int64], verdicts: Collection[int]) -> NDArray[np.int64]:
    return rows[~np.isin(rows, np.fromiter(verdicts, np.int64, len(verdicts)))]


def _unfit_or_repeated(samples: Samples, rules: Rules) -> dict[int, Verdict]:
    """The rules that need no label: quality, the same bytes again, nearly the same again."""
    rows = np.arange(len(samples))
    poor = rows[samples.quality < rules.min_quality]
    dropped = {int(row): Verdict(Rule.LOW_QUALITY, -1, float(samples.quality[row])) for row in poor}
    rows = _without(rows, dropped)
    repeated = _same_bytes(samples, rows)
    dropped |= repeated
    groups = rows_by_identity(samples.identity, _without(rows, repeated))
    pairs = (pair for group in groups for pair in near_duplicates(samples, group, rules.near_score))
    return dropped | {p.row: Verdict(Rule.NEAR, p.other, p.score) for p in pairs}


def _same_bytes(samples: Samples, rows: NDArray[np.int64]) -> dict[int, Verdict]:
    """Within an identity the first stays; of several identities the one it resembles most.

    That one's centre is made without the group itself; where no other picture says anything, the
    first stays.
    """
    verdicts: dict[int, Verdict] = {}
    groups = exact_groups(samples.digest, rows)
    by_identity = {int(samples.identity[g[0]]): g for g in rows_by_identity(samples.identity, rows)}
    for group in groups:
        firsts: dict[int, int] = {}
        for row in group.tolist():
            first = firsts.setdefault(int(samples.identity[row]), row)
            if first != row:
                verdicts[row] = Verdict(Rule.SAME_BYTES, first, 1.0)
        if len(firsts) == 1:
            continue
        embedding = samples.unit(group[:1])[0]
        resemblance = {}
        for identity, row in firsts.items():
            others = np.setdiff1d(by_identity[identity], group)
            centre = samples.unit(others).sum(0)
            norm = float(np.linalg.norm(centre))
            resemblance[row] = float(centre @ embedding) / norm if norm > 1e-6 else -1.0
        best = max(resemblance, key=lambda row: (resemblance[row], -row))
        for row in firsts.values():
            if row != best:
                verdicts[row] = Verdict(Rule.SAME_ELSEWHERE, best, 1.0)
    return verdicts


def _weaker_of(
    pairs: Sequence[Pair], rows: NDArray[np.int64], labels: Labels
) -> dict[int, Verdict]:
    """Of each pair across identities, the row that is less near its own identity's centre."""
    own = dict(zip(rows.tolist(), np.nan_to_num(labels.own, nan=-2).tolist(), strict=True))
    verdicts: dict[int, Verdict] = {}
    for pair in pairs:
        if pair.row in verdicts or pair.other in verdicts:
            continue
        row, other = (
            (pair.row, pair.other) if own[pair.row] < own[pair.other] else (pair.other, pair.row)
        )
        verdicts[row] = Verdict(Rule.NEAR_ELSEWHERE, other, pair.score)
    return verdicts


def _in_two_parts(
    identity: NDArray[np.int64], own_part: NDArray[np.int64], rows: NDArray[np.int64]
) -> dict[int, Verdict]:
    """Pictures outside of the part that holds most of their identity's: parts share nobody."""
    verdicts: dict[int, Verdict] = {}
    for group in rows_by_identity(identity, rows):
        parts = own_part[group]
        if (parts == parts[0]).all():
            continue
        # A tie goes to the later part: what is measured on stays whole.
        counts = np.bincount(parts[parts >= 0], minlength=len(PARTS))
        most = len(PARTS) - 1 - int(counts[::-1].argmax())
        outside = group[(parts >= 0) & (parts != most)]
        verdicts |= {int(row): Verdict(Rule.TWO_PARTS) for row in outside}
    return verdicts


def _parts(
    identity: NDArray[np.int64],
    own_part: NDArray[np.int64],
    rows: NDArray[np.int64],
    names: Sequence[str],
    same_person: Sequence[SamePerson],
    cohort: float,
) -> dict[int, str]:
    """The part of each identity that is left: its data set's own, else by a hash of its name.

    Identities that may be one person are split together, by the first of their names, so that
    nobody is learnt in `fit` and measured in `report`.
    """
    leader: dict[int, int] = {}

    def lead(number: int) -> int:
        while number in leader:
            number = leader[number]
        return number

    for pair in same_person:
        first, second = sorted((lead(pair.identity), lead(pair.other)), key=lambda i: names[i])
        if first != second:
            leader[second] = first
    part_of: dict[int, str] = {}
    for group in rows_by_identity(identity, rows):
        number = int(identity[group[0]])
        own = int(own_part[group].max())
        name = names[lead(number)]
        part = PARTS[own] if own >= 0 else part_by_hash(name)
        part_of[number] = COHORT if part == FIT and _share(f"cohort {name}") < cohort else part
    return part_of
