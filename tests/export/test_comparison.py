"""The gate's figures against slow, plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnxruntime")

from limen.calibration.rates import fnmr_at_fmr
from limen.embedder import unit_norm
from limen.export.comparison import (
    FMRS,
    Ranked,
    drift,
    fnmr_changes,
    pairs_of,
    rank_1_changes,
)


def people(
    seed: int, subjects: int = 30, each: int = 6, noise: float = 0.9
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit-norm embeddings that overlap, and whose they are."""
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(subjects), each)
    centres = rng.normal(size=(subjects, 12))
    rows = centres[identity] + rng.normal(0, noise, (len(identity), 12))
    return unit_norm(rows.astype(np.float32)), identity


def shaken(embeddings: NDArray[np.float32], noise: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(99)
    return unit_norm((embeddings + rng.normal(0, noise, embeddings.shape)).astype(np.float32))


def loops(
    embeddings: NDArray[np.float32], identity: NDArray[np.int64], weight: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mated and non-mated scores where subject s is there weight[s] times, pair by pair."""
    mated, non_mated = [], []
    scores = embeddings @ embeddings.T
    for i in range(len(identity)):
        for j in range(i + 1, len(identity)):
            first, second = identity[i], identity[j]
            if first == second:
                mated += [scores[i, j]] * int(weight[first])
            else:
                non_mated += [scores[i, j]] * int(weight[first] * weight[second])
    return np.array(mated, np.float32), np.array(non_mated, np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_weighted_fnmr_is_that_of_the_pairs_written_out(seed: int) -> None:
    embeddings, identity = people(seed)
    pairs = pairs_of(identity)
    assert pairs is not None
    ranked = Ranked(pairs, pairs.scores(embeddings))
    rng = np.random.default_rng(seed)
    for weight in (np.ones(30, np.int64), np.bincount(rng.integers(0, 30, 30), minlength=30)):
        mated, non_mated = loops(embeddings, identity, weight)
        found = ranked.fnmr_at_fmr(FMRS, weight, len(non_mated))
        assert found == pytest.approx([fnmr_at_fmr(mated, non_mated, fmr) for fmr in FMRS])


def test_ties_at_the_threshold_are_rejected_together() -> None:
    identity = np.repeat(np.arange(4), 3)
    embeddings = unit_norm(np.ones((12, 3), np.float32))
    pairs = pairs_of(identity)
    assert pairs is not None
    ranked = Ranked(pairs, pairs.scores(embeddings))
    assert ranked.fnmr_at_fmr([0.5], np.ones(4, np.int64), int((~pairs.mated).sum())) == 1.0


def test_threshold_below_the_kept_scores_is_still_found() -> None:
    """A resample whose weight lies on pairs that are not among the highest."""
    embeddings, identity = people(7, subjects=80, each=4)
    pairs = pairs_of(identity)
    assert pairs is not None
    ranked = Ranked(pairs, pairs.scores(embeddings))
    weight = np.ones(80, np.int64)
    mated, non_mated = loops(embeddings, identity, weight)
    for fmr in (0.04, 0.2, 0.9):
        found = ranked.fnmr_at_fmr([fmr], weight, len(non_mated))
        assert found == pytest.approx([fnmr_at_fmr(mated, non_mated, fmr)])


def test_network_against_itself_changes_nothing_and_a_worse_one_loses() -> None:
    embeddings, identity = people(1, subjects=60)
    pairs = pairs_of(identity)
    assert pairs is not None
    before = Ranked(pairs, pairs.scores(embeddings))
    same = fnmr_changes(pairs, before, before, np.random.default_rng(0), 40, 0.95)
    assert [(c.change, c.low, c.high) for c in same] == [(0, 0, 0)] * 3
    after = Ranked(pairs, pairs.scores(shaken(embeddings, 0.3)))
    worse = fnmr_changes(pairs, before, after, np.random.default_rng(0), 200, 0.95)
    assert worse[0].reliable
    assert not worse[2].reliable  # 6 false matches expected at 1e-4
    assert 0 < worse[0].low < worse[0].change < worse[0].high
    assert worse[0].change == pytest.approx(worse[0].graph - worse[0].reference, abs=2e-6)


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Of worlds drawn alike, the 90 % interval misses the mean change in some tenth."""
    changes = []
    for seed in range(40):
        embeddings, identity = people(seed, subjects=40, each=4)
        pairs = pairs_of(identity)
        assert pairs is not None
        rng = np.random.default_rng([seed, 1])
        other = unit_norm((embeddings + rng.normal(0, 0.15, embeddings.shape)).astype(np.float32))
        before, after = (Ranked(pairs, pairs.scores(e)) for e in (embeddings, other))
        changes.append(fnmr_changes(pairs, before, after, rng, 100, 0.9)[0])
    truth = np.mean([c.change for c in changes])
    held = sum(c.low <= truth <= c.high for c in changes)
    assert 30 <= held <= 40


def test_drift_and_ranks_are_those_of_plain_loops() -> None:
    embeddings, identity = people(3)
    other = shaken(embeddings, 0.15)
    pairs = pairs_of(identity)
    assert pairs is not None
    found = drift(pairs.scores(other), pairs.scores(embeddings))
    differences = [
        float(other[i] @ other[j]) - float(embeddings[i] @ embeddings[j])
        for i in range(len(identity))
        for j in range(i + 1, len(identity))
    ]
    assert found.mean == pytest.approx(np.mean(differences), abs=2e-6)
    assert found.spread == pytest.approx(np.std(differences), abs=2e-6)
    assert found.worst == pytest.approx(np.abs(differences).max(), abs=2e-6)
    changed, lost = 0, 0
    for i in range(len(identity)):
        others = [j for j in range(len(identity)) if j != i]
        before = identity[max(others, key=lambda j: embeddings[i] @ embeddings[j])]
        after = identity[max(others, key=lambda j: other[i] @ other[j])]
        changed += before != after
        lost += before == identity[i] != after
    expected = (changed / len(identity), lost / len(identity))
    assert rank_1_changes(other, embeddings, pairs) == pytest.approx(expected)
    assert lost > 0


def test_pictures_of_nobody_known_take_no_part() -> None:
    embeddings, identity = people(5)
    with_strangers = np.concatenate([identity, [-1, -1]])
    more = np.concatenate([embeddings, embeddings[:2]])
    first, second = pairs_of(identity), pairs_of(with_strangers)
    assert first is not None
    assert second is not None
    assert np.array_equal(first.scores(embeddings), second.scores(more))
    assert rank_1_changes(more, more, second) == (0, 0)
    assert pairs_of(np.zeros(5, np.int64)) is None
    assert pairs_of(np.arange(5)) is None
