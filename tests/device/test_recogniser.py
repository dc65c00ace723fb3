from __future__ import annotations

import numpy as np
import pytest

from limen.device.fakes import FakeDetector, FakeEmbedder, fake_embedding, fake_picture
from limen.device.recogniser import Recogniser
from limen.device.subjects import References
from limen.device.values import Frame, Outcome
from limen.errors import CalibrationError, ModelMismatchError, SubjectNotFoundError
from limen.recognition import acquire

RED, GREEN, BLUE, DARK_RED = (250, 10, 10), (10, 250, 10), (10, 10, 250), (120, 5, 5)
NOBODY = References((), np.zeros(0, np.int64), np.zeros((0, 0), np.float32))
TWO = References(
    ("ann", "bob"),
    np.array([0, 0, 1], np.int64),
    np.stack([fake_embedding(RED), fake_embedding(DARK_RED), fake_embedding(GREEN)]),
)
FRAME = Frame(fake_picture(RED), 1.5, 7)


def sample_of(*colours: tuple[int, int, int]):  # type: ignore[no-untyped-def]
    return acquire(fake_picture(*colours), FakeDetector(), FakeEmbedder())


def test_candidates_come_best_first_with_the_cosine_to_the_fused_references() -> None:
    probe = fake_embedding((200, 60, 10))
    best, second = Recogniser(TWO, 0.9).identify(probe)
    fused = TWO.embeddings[:2].sum(0)
    fused /= np.linalg.norm(fused)
    assert (best.subject_id, second.subject_id) == ("ann", "bob")
    assert best.score == pytest.approx(float(fused @ probe), abs=1e-6)
    assert best.score > second.score


def test_score_equal_to_the_threshold_matches() -> None:
    probe = fake_embedding((200, 60, 10))
    score = Recogniser(TWO, 0.0).verify(probe, "ann").score
    sample = sample_of((200, 60, 10))
    assert Recogniser(TWO, score).decide(sample, FRAME).outcome is Outcome.MATCH
    above = float(np.nextafter(score, 2))
    assert Recogniser(TWO, above).decide(sample, FRAME).outcome is Outcome.NO_MATCH


def test_stranger_is_no_match_and_the_nearest_candidate_is_told() -> None:
    decision = Recogniser(TWO, 0.9).decide(sample_of(BLUE), FRAME)
    assert decision.outcome is Outcome.NO_MATCH
    assert decision.candidate is not None
    assert (decision.sequence, decision.captured_at_s, decision.faces) == (7, 1.5, 1)


def test_claim_of_an_unknown_subject_is_an_error_without_the_name() -> None:
    with pytest.raises(SubjectNotFoundError, match="limen subjects") as raised:
        Recogniser(TWO, 0.9).verify(fake_embedding(RED), "mallory")
    assert "mallory" not in str(raised.value)


def test_empty_gallery_matches_nobody_even_at_the_lowest_threshold() -> None:
    decision = Recogniser(NOBODY, -1.0).decide(sample_of(RED), FRAME)
    assert (decision.outcome, decision.candidate) == (Outcome.NO_MATCH, None)
    assert Recogniser(NOBODY, 0.5).identify(fake_embedding(RED)) == []


@pytest.mark.parametrize("gate", [{"min_quality": 1.01}, {"min_face_px": 113.0}])
def test_poor_face_is_a_failure_to_acquire(gate: dict[str, float]) -> None:
    decision = Recogniser(TWO, 0.9).decide(sample_of(RED), FRAME, **gate)
    assert (decision.outcome, decision.candidate) == (Outcome.FAILURE_TO_ACQUIRE, None)
    assert decision.faces == 1


def test_no_face_is_a_failure_to_acquire() -> None:
    assert Recogniser(TWO, -1.0).decide(None, FRAME).outcome is Outcome.FAILURE_TO_ACQUIRE


def test_probe_of_another_size_is_refused() -> None:
    with pytest.raises(ModelMismatchError, match="8 values"):
        Recogniser(TWO, 0.9).identify(np.eye(16, dtype=np.float32)[0])


@pytest.mark.parametrize("threshold", [float("nan"), float("-inf"), -1.1, 1.1])
def test_threshold_that_is_no_cosine_is_refused(threshold: float) -> None:
    with pytest.raises(CalibrationError):
        Recogniser(TWO, threshold)
