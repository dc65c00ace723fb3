"""People differ: normalisation, metrics, the menagerie, transactions."""

import numpy as np
import pytest

from limen.calibration.menagerie import advice, menagerie, pair_advice
from limen.calibration.metric import kissme, metric_evidence, within_class_whitening
from limen.calibration.normalisation import KINDS, compare_normalisations, normaliser
from limen.errors import CalibrationError


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def crowd(rng: np.random.Generator, people: int, pictures: int, noise=1.0, size=32):
    """Embeddings whose pictures differ mostly in the first few dimensions."""
    spread = np.where(np.arange(size) < 6, 3.0, 0.3) * noise
    own = np.repeat(rng.normal(size=(people, size)), pictures, 0)
    rows = own + rng.normal(size=own.shape) * spread
    return unit(rows), np.repeat(np.arange(people), pictures)


def test_normalised_scores_are_what_loops_say() -> None:
    rng = np.random.default_rng(0)
    cohort, subject = crowd(rng, 25, 3)
    probes, references = unit(rng.normal(size=(4, 32))), unit(rng.normal(size=(3, 32)))
    templates = unit(np.stack([cohort[subject == s].mean(0) for s in range(25)]))
    z, t, s, a = (
        normaliser(kind, cohort, subject, top=10)(probes, references) for kind in KINDS[1:]
    )
    for i in range(4):
        for j in range(3):
            score = probes[i] @ references[j]
            at_reference, at_probe = cohort @ references[j], templates @ probes[i]
            z_ij = (score - at_reference.mean()) / at_reference.std()
            t_ij = (score - at_probe.mean()) / at_probe.std()
            top = [np.sort(scores)[-10:] for scores in (at_reference, at_probe)]
            a_ij = np.mean([(score - some.mean()) / some.std() for some in top])
            for found, expected in ((z, z_ij), (t, t_ij), (s, (z_ij + t_ij) / 2), (a, a_ij)):
                assert found[i, j] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_normalisation_is_chosen_only_where_it_helps() -> None:
    rng = np.random.default_rng(1)
    rows, subject = crowd(rng, 120, 5, noise=0.5)
    evidence = compare_normalisations(rows, subject, max_fmr=1e-2, rng=rng, splits=4)
    assert set(evidence.fnmr) == set(KINDS)
    if evidence.chosen != "none":
        assert evidence.gain > max(2 * evidence.gain_error, 0.01)
    # Probes that are all alike in one direction, each to its own degree: T-norm's case.
    common = rng.normal(size=32)
    shifted = unit(rows + rng.uniform(0, 1.2, (len(rows), 1)) * common / np.linalg.norm(common))
    helped = compare_normalisations(shifted, subject, max_fmr=1e-2, rng=rng, splits=4)
    assert helped.chosen != "none"
    with pytest.raises(CalibrationError, match="80 people"):
        compare_normalisations(rows[:100], subject[:100], max_fmr=1e-2, rng=rng)
    with pytest.raises(CalibrationError, match="20 people"):
        normaliser("z", rows[:10], subject[:10])


def test_a_whitened_within_class_covariance_is_the_identity() -> None:
    rng = np.random.default_rng(2)
    rows, subject = crowd(rng, 200, 8)
    metric = within_class_whitening(rows, subject, shrinkage=0.0)
    mapped = rows @ metric.projection.T
    rest = mapped - np.repeat(mapped.reshape(200, 8, -1).mean(1), 8, 0)
    assert np.allclose(rest.T @ rest / (1600 - 200), np.eye(32), atol=0.02)
    assert np.allclose(np.linalg.norm(metric(rows), axis=1), 1, atol=1e-5)


def test_kissme_is_the_difference_of_inverse_covariances() -> None:
    rng = np.random.default_rng(3)
    rows, subject = crowd(rng, 150, 6, size=8)
    metric = kissme(rows, subject, rng, shrinkage=0.0)
    mated, non_mated = np.zeros((8, 8)), np.zeros((8, 8))
    counts = [0, 0]
    for i in range(0, 900, 3):
        for j in range(i):
            d = (rows[i] - rows[j]).astype(np.float64)
            same = subject[i] == subject[j]
            (mated if same else non_mated)[:] += np.outer(d, d)
            counts[0 if same else 1] += 1
    matrix = np.linalg.inv(mated / counts[0]) - np.linalg.inv(non_mated / counts[1])
    values, vectors = np.linalg.eigh(matrix)
    expected = (vectors * np.maximum(values, 0)) @ vectors.T
    found = metric.projection.T.astype(np.float64) @ metric.projection
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("kind", ["wccn", "kissme"])
def test_a_metric_is_kept_only_where_held_out_people_say_so(kind) -> None:
    rng = np.random.default_rng(4)
    helped = metric_evidence(kind, *crowd(rng, 100, 5, noise=0.6), max_fmr=1e-2, rng=rng)
    assert helped.kept
    assert helped.fnmr_after < helped.fnmr_before
    own = np.repeat(rng.normal(size=(100, 32)), 5, 0)
    round_ones = unit(own + 0.7 * rng.normal(size=own.shape))
    useless = metric_evidence(kind, round_ones, np.repeat(np.arange(100), 5), max_fmr=1e-2, rng=rng)
    assert not useless.kept
    with pytest.raises(CalibrationError, match="20 people"):
        metric_evidence(kind, *crowd(rng, 10, 2), max_fmr=1e-2, rng=rng)


def test_lookalikes_and_those_hard_to_match_are_named_with_what_to_do() -> None:
    rng = np.random.default_rng(5)
    person = rng.normal(size=(4, 32))
    person[1] = person[0] + 0.3 * rng.normal(size=32)  # a lookalike of 0
    noise = np.array([0.2, 0.2, 3.0, 0.2])  # 2 is hard to match
    subject = np.repeat(np.arange(4), 4)
    references = unit(person[subject] + noise[subject, None] * rng.normal(size=(16, 32)))
    cohort = unit(rng.normal(size=(500, 32)))
    mated = np.array(
        [
            references[i] @ unit(references[(subject == subject[i]) & (np.arange(16) != i)].mean(0))
            for i in range(16)
        ],
        np.float32,
    )
    found = menagerie(references, subject, 4, cohort, np.arange(500), mated, subject, 0.7)
    assert (found.lookalikes[0].first, found.lookalikes[0].second) == (0, 1)
    assert found.lookalikes[0].confused
    assert "second factor" in pair_advice(found.lookalikes[0])
    assert [f.number for f in found.subjects if f.hard_to_match] == [2]
    assert "enrol more shots" in (advice(found.subjects[2]) or "")
    assert advice(found.subjects[3]) is None
