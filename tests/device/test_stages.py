"""A frame's way to a decision, timed stage by stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from limen.device.fakes import FakeDetector, FakeEmbedder, fake_picture
from limen.device.peers import FaceRecognitionPeer, OpenCvPeer, has_face_recognition
from limen.device.recogniser import Recogniser
from limen.device.stages import MIN_ROUNDS, STAGES, DoorStages, bench, strangers
from limen.errors import BundleError, NoFaceError, RuntimeUnavailableError

RED = (250, 10, 10)


class Ticking:
    """A clock that a millisecond passes on at each look."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.001
        return self.now_s


def door(clock: Ticking, references: int = 20) -> DoorStages:
    recogniser = Recogniser(strangers(references, 8), 0.5)
    return DoorStages(FakeDetector(), FakeEmbedder(), recogniser, clock)


def test_stages_add_up_to_the_whole_and_peers_take_turns() -> None:
    clock = Ticking()

    class Slow:
        name = "slow"
        decided = 0

        def decide(self, image: NDArray[np.uint8]) -> bool:
            self.decided += 1
            clock.now_s += 0.016
            return False

    peer = Slow()
    found = bench(fake_picture(RED), door(clock), 20, peers=[peer], seconds=0.0, clock=clock)
    assert [stage.name for stage in found.stages] == list(STAGES)
    assert [stage.median_ms for stage in found.stages] == pytest.approx([1.0] * 4)
    assert (found.whole.median_ms, found.frames_a_second) == pytest.approx((4.0, 250.0))
    assert (found.rounds, found.references) == (MIN_ROUNDS, 20)
    assert found.peers[0].median_ms == pytest.approx(17.0)
    assert found.peers[0].times_as_long == pytest.approx(17 / 4)
    assert peer.decided > MIN_ROUNDS
    assert found.resident_mb > 1
    assert found.to_dict()["stages"][0]["name"] == "find"


def test_picture_without_a_face_is_an_error() -> None:
    with pytest.raises(NoFaceError):
        bench(fake_picture(), door(Ticking()), 20, seconds=0.0)


def test_references_are_unit_vectors_and_the_same_each_time() -> None:
    first, again = strangers(50, 16), strangers(50, 16)
    np.testing.assert_array_equal(first.embeddings, again.embeddings)
    np.testing.assert_allclose(np.linalg.norm(first.embeddings, axis=1), 1.0, atol=1e-6)
    assert len(set(first.subject_ids)) == 50


def test_peer_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(BundleError, match="OpenCV does not read"):
        OpenCvPeer(tmp_path / "x.onnx", tmp_path / "x.onnx", 10)
    if not has_face_recognition():
        with pytest.raises(RuntimeUnavailableError, match="pip install"):
            FaceRecognitionPeer(10)
