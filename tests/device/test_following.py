"""Faces over time: tracks, the quality of shots, and what they make together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limen.alignment import CROP_PX, TEMPLATE_XY
from limen.detection import DetectedFace
from limen.device.fakes import FakeDetector, FakeEmbedder, fake_picture
from limen.device.following import FaceRule, Follower, FollowPolicy, scaled_faces
from limen.device.shot_quality import (
    light_quality,
    occlusion_quality,
    pose_quality,
    shot_quality,
)
from limen.device.tracker import Tracker, TrackerPolicy
from limen.embedder import unit_norm
from limen.errors import ConfigError

RED, GREEN, BLUE = (250, 10, 10), (10, 250, 10), (10, 10, 250)


def face(x: float, y: float = 100.0, width: float = 100.0) -> DetectedFace:
    """A face whose box has its middle at (x, y)."""
    half = width / 2
    box = np.array([x - half, y - half, x + half, y + half], np.float32)
    landmarks = TEMPLATE_XY * (width / CROP_PX) + box[:2]
    return DetectedFace(box, landmarks.astype(np.float32), 1.0)


def walk(tracker: Tracker, *frames: list[DetectedFace], step_s: float = 0.1) -> list[list[int]]:
    return [tracker.update(faces, step_s * i) for i, faces in enumerate(frames)]


def test_moving_face_is_one_track_and_a_new_one_another() -> None:
    assert walk(
        Tracker(), [face(100)], [face(130)], [face(160), face(400)], [face(395), face(190)]
    ) == [[1], [1], [1, 2], [2, 1]]


def test_face_that_was_missed_for_a_moment_goes_on_where_it_was_going() -> None:
    frames = [[face(100)], [face(150)], [face(200)], [], [], [face(350)]]
    assert walk(Tracker(), *frames)[-1] == [1]
    gone = [[face(100)], *[[]] * 8, [face(100)]]
    assert walk(Tracker(), *gone)[-1] == [2]


def test_two_people_who_pass_each_other_keep_their_tracks() -> None:
    frames = [[face(100 + 40 * i), face(420 - 40 * i, y=130)] for i in range(9)]
    assert walk(Tracker(), *frames)[-1] == [1, 2]


def test_jump_growth_and_a_clock_that_goes_back_begin_a_new_track() -> None:
    assert walk(Tracker(), [face(100)], [face(300)]) == [[1], [2]]
    assert walk(Tracker(), [face(100)], [face(100, width=170)]) == [[1], [2]]
    tracker = Tracker()
    assert [tracker.update([face(100)], at_s) for at_s in (5.0, 4.0)] == [[1], [2]]
    assert [tracker.update([face(100)], at_s) for at_s in (4.1, float("nan"))] == [[2], [3]]


def test_tracker_policy_out_of_bounds_is_refused() -> None:
    for values in ({"max_gap_s": 0.0}, {"max_step": 9.0}, {"max_growth": 1.0}):
        with pytest.raises(ConfigError):
            TrackerPolicy(**values)


def turned(yaw: float = 0.0, roll_deg: float = 0.0) -> NDArray[np.float32]:
    """Landmarks whose nose lies `yaw` eye distances aside, rolled about the eyes' middle."""
    points = np.array([[0, 0], [40, 0], [20, 25], [5, 45], [35, 45]], np.float64)
    points[2, 0] += 40 * yaw
    turn = np.radians(roll_deg)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return (points @ rotation.T).astype(np.float32)


def test_pose_is_best_for_a_face_that_looks_at_the_camera() -> None:
    assert pose_quality(turned()) == pytest.approx(1.0)
    yaws = [pose_quality(turned(yaw)) for yaw in (0.0, 0.1, 0.3, 0.5, 0.9)]
    assert yaws == sorted(yaws, reverse=True)
    assert yaws[-1] == 0.0
    rolls = [pose_quality(turned(0.1, roll)) for roll in (0.0, 15.0, 30.0, 45.0, 180.0)]
    assert rolls == sorted(rolls, reverse=True)
    assert rolls[-1] == 0.0
    assert pose_quality(np.zeros((5, 2), np.float32)) == 0.0


def test_light_is_best_when_it_is_even_and_neither_dark_nor_glaring() -> None:
    rng = np.random.default_rng(1)
    even = rng.integers(90, 160, (112, 112)).astype(np.uint8)
    assert light_quality(even) == pytest.approx(1.0, abs=0.02)
    dark, glare = (even // 12).astype(np.uint8), np.full((112, 112), 250, np.uint8)
    half_lit = even.copy()
    half_lit[:, :56] //= 6
    for worse in (dark, glare, half_lit):
        assert light_quality(worse) < 0.6


def test_covered_landmark_lowers_the_quality() -> None:
    crop = np.asarray(fake_picture(RED)[24:136, 24:136, 0])
    assert occlusion_quality(crop) == 1.0
    covered = crop.copy()
    covered[80:, :] = 120  # a hand before the mouth
    assert occlusion_quality(covered) < 0.1
    assert occlusion_quality(np.zeros_like(crop)) == 0.0


def test_quality_is_the_product_of_its_components() -> None:
    picture = fake_picture(RED)
    (found,) = FakeDetector().detect(picture)
    quality = shot_quality(found, picture[24:136, 24:136])
    parts = (quality.base, quality.pose, quality.light, quality.occlusion)
    assert quality.total == pytest.approx(np.prod(parts))
    assert all(0 < part <= 1 for part in parts)


class CountingEmbedder(FakeEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.embedded = 0

    def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.embedded += len(aligned)
        return super().embed(aligned)


def follow(follower: Follower, picture: NDArray[np.uint8], at_s: float) -> list[Any]:
    return list(follower.follow(picture, FakeDetector().detect(picture), at_s))


def test_best_shots_are_embedded_and_others_only_now_and_then() -> None:
    embedder = CountingEmbedder()
    follower = Follower(embedder, FollowPolicy(wait_s=0.4))
    sharp, dull = fake_picture(RED), fake_picture((60, 3, 3))
    assert follow(follower, sharp, 0.0)[0].sample is not None
    shots = [follow(follower, dull, 0.1 * i)[0] for i in range(1, 8)]
    assert [shot.sample is not None for shot in shots] == [i == 4 for i in range(1, 8)]
    assert embedder.embedded == 2
    assert {shot.track for shot in shots} == {1}


def test_probe_is_the_quality_weighted_mean_of_the_best_shots() -> None:
    class Numbered(FakeEmbedder):
        made = 0

        def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
            vector = np.zeros((1, 8), np.float32)
            vector[0, 0], vector[0, 1 + self.made] = 1.0, 0.5
            self.made += 1
            return unit_norm(vector)

    follower = Follower(Numbered(), FollowPolicy(shots=2, good_enough=0.0))
    pictures = [fake_picture(RED), fake_picture((90, 5, 5)), fake_picture((200, 8, 8))]
    shots = [follow(follower, picture, 0.1 * i)[0] for i, picture in enumerate(pictures)]
    qualities = [shot.quality for shot in shots]
    assert qualities[1] < min(qualities[0], qualities[2])  # so the second shot is crowded out
    expected = np.zeros(8)
    for index in (0, 2):
        vector = np.zeros(8)
        vector[0], vector[1 + index] = 1.0, 0.5
        expected += qualities[index] * vector / np.linalg.norm(vector)
    probe = shots[2].sample.embedding
    np.testing.assert_allclose(probe, expected / np.linalg.norm(expected), atol=1e-6)
    assert np.linalg.norm(probe) == pytest.approx(1.0)


class Turning(FakeEmbedder):
    """Each embedding is turned a little further, and none comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[NDArray[np.float32]] = []

    def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        angle = 0.1 * (len(self.made) + 1)
        vector = np.array([[np.cos(angle), np.sin(angle)] + [0.0] * 6], np.float32)
        self.made.append(vector[0])
        return vector


def test_no_more_shots_are_fused_than_were_calibrated_for() -> None:
    embedder = Turning()
    follower = Follower(embedder, FollowPolicy(shots=5, good_enough=0.0))
    picture = fake_picture(RED)
    faces = FakeDetector().detect(picture)
    alone = [next(iter(follower.follow(picture, faces, 0.1 * i, 1))) for i in range(3)]
    for shot, own in zip(alone, embedder.made, strict=True):
        np.testing.assert_allclose(shot.sample.embedding, own, atol=1e-6)
    fused = next(iter(follower.follow(picture, faces, 0.4, 2)))
    # Equal quality: the first stays the best, and was kept while one shot was the most.
    expected = embedder.made[0] + embedder.made[3]
    np.testing.assert_allclose(
        fused.sample.embedding, expected / np.linalg.norm(expected), atol=1e-6
    )


@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_two_frames_of_a_track_give_one_probe(most: int) -> None:
    # One lucky picture, poorer ones after it: each vote must rest on a picture of its own.
    follower = Follower(Turning(), FollowPolicy(shots=5, wait_s=0.05))
    pictures = [fake_picture(RED), *[fake_picture((90, 5, 5))] * 8]
    probes = []
    for i, picture in enumerate(pictures):
        (shot,) = follower.follow(picture, FakeDetector().detect(picture), 0.1 * i, most)
        probes.append(shot.sample.embedding)
    distances = [np.linalg.norm(a - b) for i, a in enumerate(probes) for b in probes[:i]]
    assert min(distances) > 1e-3


def test_poorer_frames_do_not_vote_with_the_best_ones_match() -> None:
    """The door's view of it: a stranger's one lucky frame is one vote, not three."""

    class LuckyOnce(FakeEmbedder):
        made = 0

        def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
            self.made += 1
            vector = np.zeros((1, 8), np.float32)
            vector[0, :2] = (1.0, 0.0) if self.made == 1 else (0.4, np.sqrt(1 - 0.16))
            return vector

    follower = Follower(LuckyOnce(), FollowPolicy(wait_s=0.05))
    ann = np.eye(8, dtype=np.float32)[0]
    matches = 0
    for i, picture in enumerate([fake_picture(RED), *[fake_picture((90, 5, 5))] * 8]):
        (shot,) = follower.follow(picture, FakeDetector().detect(picture), 0.1 * i, 1)
        matches += float(shot.sample.embedding @ ann) >= 0.6
    assert matches == 1


def test_somebody_who_steps_into_a_track_gets_one_of_their_own() -> None:
    follower = Follower(FakeEmbedder(), FollowPolicy(same=0.5))
    first = follow(follower, fake_picture(RED), 0.0)[0]
    second = follow(follower, fake_picture(GREEN), 0.1)[0]
    assert (first.track, second.track) == (1, 2)
    alone = FakeEmbedder().embed(second.sample.crop[None])[0]
    np.testing.assert_allclose(second.sample.embedding, alone, atol=1e-6)


@pytest.mark.parametrize(("rule", "embedded"), [("one", 0), ("nearest", 1), ("all", 3)])
def test_rule_says_which_of_several_faces_counts(rule: str, embedded: int) -> None:
    follower = Follower(FakeEmbedder(), FollowPolicy(rule=FaceRule(rule)))
    shots = follow(follower, fake_picture(RED, GREEN, BLUE), 0.0)
    assert sum(shot.sample is not None for shot in shots) == embedded
    assert all(shot.faces == 3 for shot in shots)
    assert len({shot.track for shot in shots}) == len(shots) == max(1, embedded)
    alone = follow(follower, fake_picture(RED), 0.1)
    assert alone[0].sample is not None


def test_poor_and_small_faces_are_never_embedded() -> None:
    embedder = CountingEmbedder()
    for limits in ({"min_quality": 1.1}, {"min_face_px": 113.0}):
        shots = follow(Follower(embedder, **limits), fake_picture(RED), 0.0)
        assert [(shot.poor, shot.sample) for shot in shots] == [(True, None)]
    assert embedder.embedded == 0


def test_faces_of_a_small_picture_are_scaled_to_the_large_one() -> None:
    (scaled,) = scaled_faces([face(50, 40, 20)], 4.0, 2.0)
    np.testing.assert_allclose(scaled.box_xyxy, [160, 60, 240, 100])
    np.testing.assert_allclose(scaled.landmarks_xy, face(50, 40, 20).landmarks_xy * [4, 2])


def test_follow_policy_out_of_bounds_is_refused() -> None:
    for values in ({"shots": 0}, {"good_enough": 1.5}, {"wait_s": 0.0}, {"same": 1.0}):
        with pytest.raises(ConfigError):
            FollowPolicy(**values)  # type: ignore[arg-type]
