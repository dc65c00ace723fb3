"""Exact search is exact: the same answer as float64 over everybody."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.device.matching import ExactSearch


def unit(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), np.float32)


def brute_force(templates: np.ndarray, probe: np.ndarray, count: int) -> np.ndarray:
    scores = np.array(
        [sum(float(a) * float(b) for a, b in zip(row, probe, strict=True)) for row in templates]
    )
    return np.argsort(-scores, kind="stable")[:count]


@pytest.mark.parametrize("size", [1, 2, 5, 700])
@pytest.mark.parametrize("count", [1, 5, 1000])
def test_same_answer_as_a_plain_loop(size: int, count: int) -> None:
    rng = np.random.default_rng(size)
    templates = unit(rng.normal(size=(size, 128)))
    for probe in unit(rng.normal(size=(5, 128))):
        rows, scores = ExactSearch(templates).best(probe, count)
        np.testing.assert_array_equal(rows, brute_force(templates, probe, count))
        np.testing.assert_allclose(scores, templates[rows] @ probe, atol=1e-6)


def test_near_ties_that_float32_cannot_tell_apart_are_ordered_as_in_float64() -> None:
    rng = np.random.default_rng(3)
    probe = unit(rng.normal(size=128))
    near = probe.astype(np.float64) + rng.normal(size=(500, 128)) * 1e-4
    templates = unit(np.concatenate([near, rng.normal(size=(500, 128))]))
    exact = np.argsort(-(templates.astype(np.float64) @ probe.astype(np.float64)), kind="stable")
    rows, scores = ExactSearch(templates).best(probe, 20)
    np.testing.assert_array_equal(rows, exact[:20])
    assert (np.diff(scores) <= 0).all()


def test_ties_come_in_the_order_of_the_rows() -> None:
    templates = unit(np.ones((7, 16)))
    rows, scores = ExactSearch(templates).best(templates[0], 3)
    assert rows.tolist() == [0, 1, 2]
    assert len(set(scores.tolist())) == 1


@given(st.lists(st.booleans(), min_size=40, max_size=40), st.integers(1, 50))
def test_only_those_who_count_are_found(among: list[bool], count: int) -> None:
    rng = np.random.default_rng(1)
    templates, probe = unit(rng.normal(size=(40, 16))), unit(rng.normal(size=16))
    search = ExactSearch(templates)
    search.best(probe, 3)
    mask = np.array(among)
    rows, _ = search.best(probe, count, mask)
    exact = np.argsort(-(templates.astype(np.float64) @ probe.astype(np.float64)), kind="stable")
    assert rows.tolist() == [row for row in exact if mask[row]][:count]
    assert len(search.best(probe, 40)[0]) == 40


def test_nobody_gives_nobody() -> None:
    rows, scores = ExactSearch(np.zeros((0, 0), np.float32)).best(unit(np.ones(16)), 5)
    assert (len(rows), len(scores)) == (0, 0)


def test_a_hundred_thousand_templates_give_the_answers_of_float64() -> None:
    """Random, near and equal ones among them; the scores in float64 decide, ties by row."""
    rng = np.random.default_rng(8)
    templates = rng.standard_normal((100_000, 64), np.float32)
    templates[50_000:50_040] = templates[7] + 1e-4 * rng.standard_normal((40, 64), np.float32)
    templates[90_000:90_003] = templates[7]
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    search = ExactSearch(templates)
    exact = templates.astype(np.float64)
    for probe in (*unit(rng.normal(size=(20, 64))), templates[7]):
        scores = exact @ probe.astype(np.float64)
        rows, _ = search.best(probe, 5)
        np.testing.assert_array_equal(rows, np.argsort(-scores, kind="stable")[:5])
