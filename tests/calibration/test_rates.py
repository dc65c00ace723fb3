"""Error rates against plain loops and scikit-learn, ties included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.calibration.rates import (
    det_curve,
    equal_error_rate,
    false_match_rate,
    false_non_match_rate,
    fnmr_at_fmr,
    roc_auc,
    roc_curve,
    tar_at_fmr,
    threshold_at_fmr,
)
from limen.calibration.scores import mated_and_non_mated
from limen.errors import CalibrationError

# Few distinct values, so that ties are the rule.
coarse = st.lists(st.integers(-5, 5).map(lambda value: value / 5), min_size=1, max_size=40)
rates = st.floats(0, 0.999)


@given(coarse, coarse, st.integers(-6, 6).map(lambda value: value / 5))
def test_rates_are_what_a_loop_counts(mated, non_mated, threshold) -> None:
    assert false_match_rate(np.array(non_mated), threshold) == sum(
        score >= threshold for score in non_mated
    ) / len(non_mated)
    assert false_non_match_rate(np.array(mated), threshold) == sum(
        score < threshold for score in mated
    ) / len(mated)


@given(coarse, rates)
def test_the_promised_fmr_is_kept_and_no_lower_threshold_would_keep_it(scores, max_fmr) -> None:
    values = np.array(scores)
    threshold = threshold_at_fmr(values, max_fmr)
    assert false_match_rate(values, threshold) <= max_fmr
    lower = values[values < threshold]
    assert len(lower) > 0
    assert false_match_rate(values, float(lower.max())) > max_fmr


def test_a_tie_stays_rejected_when_scores_are_float32() -> None:
    scores = np.array([0.1, 0.3, 0.3, 0.3], np.float32)
    threshold = threshold_at_fmr(scores, 0.5)
    assert not (scores >= threshold).any()  # numpy rounds the threshold to float32 here
    assert not (scores.astype(np.float64) >= threshold).any()


def test_a_tenth_of_ten_allows_one() -> None:
    scores = np.arange(10) / 10
    assert false_match_rate(scores, threshold_at_fmr(scores, 0.3)) == pytest.approx(0.3)


@given(coarse, coarse)
def test_the_det_curve_holds_every_operating_point(mated, non_mated) -> None:
    thresholds, fmr, fnmr = det_curve(np.array(mated), np.array(non_mated))
    for threshold, f, n in zip(thresholds, fmr, fnmr, strict=True):
        assert f == pytest.approx(false_match_rate(np.array(non_mated), threshold))
        assert n == pytest.approx(false_non_match_rate(np.array(mated), threshold))
    assert fmr[-1] == 0
    assert fmr[0] == 1


def test_equal_error_rate_of_separated_and_of_identical_scores() -> None:
    assert equal_error_rate(np.array([0.8, 0.9]), np.array([0.1, 0.2])) == 0
    same = np.array([0.1, 0.2, 0.3, 0.4])
    assert equal_error_rate(same, same) == pytest.approx(0.5)


def test_equal_error_rate_of_two_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    mated, non_mated = rng.normal(2, 1, 200_000), rng.normal(0, 1, 200_000)
    assert equal_error_rate(mated, non_mated) == pytest.approx(0.15866, abs=0.002)  # Phi(-1)


@given(coarse, coarse)
def test_auc_is_scikit_learns(mated, non_mated) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    labels = [1] * len(mated) + [0] * len(non_mated)
    assert roc_auc(np.array(mated), np.array(non_mated)) == pytest.approx(
        metrics.roc_auc_score(labels, mated + non_mated)
    )


@pytest.mark.parametrize("scores", [[], [float("nan")], [[0.1]]])
def test_empty_and_undefined_scores_are_refused(scores) -> None:
    with pytest.raises(CalibrationError):
        threshold_at_fmr(np.array(scores), 0.1)


@pytest.mark.parametrize("max_fmr", [-0.1, 1.0, 2.0])
def test_a_rate_outside_its_range_is_refused(max_fmr) -> None:
    with pytest.raises(CalibrationError, match="max_fmr"):
        threshold_at_fmr(np.array([0.1, 0.2]), max_fmr)


def test_infinite_scores_are_ordered_like_any() -> None:
    assert fnmr_at_fmr(np.array([np.inf, 0.5]), np.array([-np.inf, 0.4]), 0.0) == 0

    for rate in (threshold_at_fmr, lambda n, _: det_curve(np.array([0.5]), n)):
        with pytest.raises(CalibrationError, match="no threshold rejects"):
            rate(np.array([0.1, np.inf]), 0.0)


@given(coarse, coarse)
def test_roc_is_scikit_learns_and_tar_lies_on_it(mated, non_mated) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    labels = [1] * len(mated) + [0] * len(non_mated)
    theirs = metrics.roc_curve(labels, mated + non_mated, drop_intermediate=False)
    _, fmr, tar = roc_curve(np.array(mated), np.array(non_mated))
    assert np.allclose(fmr, theirs[0])
    assert np.allclose(tar, theirs[1])
    for level in (0.0, 0.3, 0.9):
        found = tar_at_fmr(np.array(mated), np.array(non_mated), level)
        assert found == pytest.approx(tar[fmr <= level * (1 + 1e-12)].max())


def test_pairs_are_counted_once_and_never_with_themselves() -> None:
    embeddings = np.eye(4, dtype=np.float32)
    mated, non_mated = mated_and_non_mated(embeddings, np.array([0, 0, 1, 2]))
    assert (len(mated), len(non_mated)) == (1, 5)
    assert np.all(mated == 0)
