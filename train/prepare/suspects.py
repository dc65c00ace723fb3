"""Labels that look wrong, by embedding: pictures of somebody else, identities that are one person.

Pure: rows in, suspicions out. A suspicion is for a person to look at; siblings, twins and hard
pictures are among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.bundle import CohortEmbeddings
from limen.calibration.rates import threshold_at_fmr
from limen.train.prepare.duplicates import Samples

BLOCK_VALUES = 1 << 23  # scores held at a time
SUM_BLOCK = 1 << 16
ROUNDS = 2
FPIR = 0.01
STRANGER_FMR = 0.1
SAME_IDENTITY_FMR = 1e-5
# By how much a cosine must differ from what was expected of it. Where own identity and the nearest
# other were closer, a stronger embedder disowned no label (docs/preparing.md).
MARGIN = 0.2
FEWEST_TO_OUTVOTE = 3

OTHER_PERSON, NOT_THIS_PERSON = "nearer to another identity", "far below its identity"


@dataclass(frozen=True, slots=True)
class Limits:
    """Cosine scores that decide, taken from strangers.

    other_identity: a picture this near another identity's centre may belong there; stranger: a
    picture less near its own identity's centre than this may not; same_identity: centres this near
    may be one person's.
    """

    other_identity: float
    stranger: float
    same_identity: float


@dataclass(frozen=True, slots=True)
class Suspect:
    """A picture whose label looks wrong.

    own: its cosine to the centre of its identity's other pictures, nan where there is none;
    nearest: the identity, of the others, whose centre is nearest; score: its cosine to that.
    """

    row: int
    why: str
    own: float
    nearest: int
    score: float


@dataclass(frozen=True, slots=True)
class SamePerson:
    """Two identities whose centres are so near that they may be one person."""

    identity: int
    other: int
    score: float


@dataclass(frozen=True)
class Labels:
    """What the embeddings say about the labels of `rows`.

    own, score: (r,) float32 as in `Suspect`; nearest: (r,) int64, -1 where there is no other.
    """

    own: NDArray[np.float32]
    nearest: NDArray[np.int64]
    score: NDArray[np.float32]
    suspects: list[Suspect]
    same_person: list[SamePerson]


def limits_from_strangers(strangers: CohortEmbeddings, identities: int) -> Limits:
    """The limits for a data set of `identities` identities, from a bundle's cohort.

    other_identity is the score that at most one stranger in a hundred reaches against any of that
    many centres (a false-positive identification rate of 1 %, hence FMR 0.01 / identities);
    stranger the score that a tenth of the strangers reach; same_identity the score that one pair of
    different people's centres in 100,000 reaches.
    """
    subject = np.unique(strangers.subject, return_inverse=True)[1].astype(np.int64)
    samples = np.asarray(strangers.embeddings, np.float32)
    centres, _ = _centres(_sums(samples, np.arange(len(subject)), subject, int(subject.max()) + 1))
    scores = samples @ centres.T
    other = np.ones(scores.shape, bool)
    other[np.arange(len(subject)), subject] = False
    between = (centres @ centres.T)[np.triu_indices(len(centres), 1)]
    return Limits(
        other_identity=threshold_at_fmr(scores[other], min(0.5, FPIR / identities)),
        stranger=threshold_at_fmr(scores[other], STRANGER_FMR),
        same_identity=threshold_at_fmr(between, SAME_IDENTITY_FMR),
    )


def look_at_labels(
    samples: Samples, rows: NDArray[np.int64], identities: int, limits: Limits
) -> Labels:
    """Judge the labels of `rows`.

    A picture is suspected where it is nearer to another identity's centre than to its own one, by
    MARGIN, and reaches `other_identity` there; or, of three pictures or more, where it stays below
    `stranger` and, by MARGIN, below its identity's median. Its own centre is that of the
    identity's other pictures. The centres are then made again without the suspected, and all are
    judged once more, because a wrong picture pulls its centre along.
    """
    identity = samples.identity[rows]
    trusted = np.ones(len(rows), bool)
    for _ in range(ROUNDS):
        sums = _sums(samples.embedding, rows[trusted], identity[trusted], identities)
        own, nearest, score = _scores(samples, rows, trusted, sums)
        counts = np.bincount(identity[trusted], minlength=identities)
        medians = _medians(own, identity, identities)
        is_other = (score >= limits.other_identity) & (score > own + MARGIN)
        is_stranger = (
            (own < limits.stranger)
            & (own < medians[identity] - MARGIN)
            & (counts[identity] >= FEWEST_TO_OUTVOTE)
        )
        trusted = ~(is_other | is_stranger)
    suspects = [
        Suspect(
            int(rows[row]),
            OTHER_PERSON if is_other[row] else NOT_THIS_PERSON,
            float(own[row]),
            int(nearest[row]),
            float(score[row]),
        )
        for row in np.flatnonzero(~trusted)
    ]
    sums = _sums(samples.embedding, rows[trusted], identity[trusted], identities)
    return Labels(own, nearest, score, suspects, same_person(sums, limits.same_identity))


def same_person(sums: NDArray[np.float32], threshold: float) -> list[SamePerson]:
    """Pairs of identities whose centres, the directions of `sums` (identities, D), reach `threshold`."""
    centres, present = _centres(sums)
    known = np.flatnonzero(present)
    found: list[SamePerson] = []
    block = max(1, BLOCK_VALUES // max(1, len(known)))
    for start in range(0, len(known), block):
        here = known[start : start + block]
        scores = centres[here] @ centres[known].T
        scores[known[None] <= here[:, None]] = -2  # each pair once
        for row, column in zip(*np.nonzero(scores >= threshold), strict=True):
            found.append(SamePerson(int(here[row]), int(known[column]), float(scores[row, column])))
    return found


def _sums(
    embedding: NDArray[np.float16] | NDArray[np.float32],
    rows: NDArray[np.int64],
    identity: NDArray[np.int64],
    identities: int,
) -> NDArray[np.float32]:
    """Per identity, the sum of the embeddings of `rows`: (identities, D). identity: (len(rows),)."""
    sums = np.zeros((identities, embedding.shape[1]), np.float32)
    for start in range(0, len(rows), SUM_BLOCK):
        here = slice(start, start + SUM_BLOCK)
        np.add.at(sums, identity[here], np.asarray(embedding[rows[here]], np.float32))
    return sums


def _centres(sums: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    norm = np.linalg.norm(sums, axis=1, keepdims=True)
    present = norm[:, 0] > 1e-6
    return np.asarray(sums / np.maximum(norm, 1e-6), np.float32), present


def _scores(
    samples: Samples,
    rows: NDArray[np.int64],
    trusted: NDArray[np.bool_],
    sums: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Own score, nearest other identity, and the score there, of each of `rows`."""
    centres, present = _centres(sums)
    own = np.full(len(rows), np.nan, np.float32)
    nearest = np.full(len(rows), -1, np.int64)
    score = np.full(len(rows), -2, np.float32)
    block = max(1, BLOCK_VALUES // max(1, len(sums)))
    for start in range(0, len(rows), block):
        here = slice(start, start + block)
        embedding = samples.unit(rows[here])
        identity = samples.identity[rows[here]]
        others = sums[identity] - embedding * trusted[here, None]
        centre, there = _centres(others)
        own[here] = np.where(there, (centre * embedding).sum(1), np.nan)
        scores = embedding @ centres.T
        scores[:, ~present] = -2
        scores[np.arange(len(embedding)), identity] = -2
        best = scores.argmax(1)
        score[here] = scores[np.arange(len(embedding)), best]
        nearest[here] = np.where(score[here] > -2, best, -1)
    return own, nearest, score


def _medians(
    own: NDArray[np.float32], identity: NDArray[np.int64], identities: int
) -> NDArray[np.float32]:
    """The median own score of each identity; nan where none is known."""
    medians = np.full(identities, np.nan, np.float32)
    known = np.flatnonzero(~np.isnan(own))
    order = known[np.lexsort((own[known], identity[known]))]
    borders = np.flatnonzero(np.diff(identity[order])) + 1
    for group in np.split(order, borders) if len(order) else ():
        medians[identity[group[0]]] = np.median(own[group])
    return medians
