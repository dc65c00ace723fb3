"""Covered faces and hard cases: labels stay, the hard ones come again, a run remembers them."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from limen.errors import ConfigError  # noqa: E402
from limen.train.finder.backdrops import pictured  # noqa: E402
from limen.train.finder.covering import cover_faces  # noqa: E402
from limen.train.finder.hard_cases import HardCases, false_faces, find_hard_cases  # noqa: E402
from limen.train.finder.labels import Labels  # noqa: E402
from limen.train.finder.network import FinderNetwork  # noqa: E402
from limen.train.finder.placing import Scene  # noqa: E402
from limen.train.finder.recipe import FinderRecipe, load_finder_recipe  # noqa: E402
from limen.train.finder.run import start_finder_training  # noqa: E402
from limen.train.finder.scenes import SceneSettings, compose  # noqa: E402
from limen.train.finder.source import LabelledPictures  # noqa: E402

Draw = Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]


def test_something_covers_a_part_of_the_face_and_its_labels_stay(draw: Draw) -> None:
    image, box, points = draw(1)
    scene = Scene(image, box[None], points[None], np.zeros((0, 4), np.float32))
    shares = []
    for seed in range(40):
        covered = cover_faces(scene, 1.0, np.random.default_rng(seed))
        changed = (covered.image != image).any(2)
        left, top, right, bottom = box.astype(int)
        inside = changed[max(0, top) : bottom, max(0, left) : right]
        shares.append(float(inside.mean()))
        assert np.array_equal(covered.boxes_xyxy, scene.boxes_xyxy)
        assert np.array_equal(covered.landmarks_xy, scene.landmarks_xy)
    assert 0.02 < np.median(shares) < 0.5
    assert max(shares) < 0.85
    untouched = cover_faces(scene, 0.0, np.random.default_rng(0))
    assert np.array_equal(untouched.image, image)


def test_small_faces_and_faces_without_landmarks_are_no_trouble(draw: Draw) -> None:
    image, box, points = draw(2)
    boxes = np.stack([box, [3, 3, 12, 14]]).astype(np.float32)
    landmarks = np.stack([np.full((5, 2), np.nan), points]).astype(np.float32)
    scene = Scene(image, boxes, landmarks, np.zeros((0, 4), np.float32))
    for seed in range(40):
        covered = cover_faces(scene, 1.0, np.random.default_rng(seed))
        assert covered.image.shape == image.shape


def test_the_faces_turned_most_and_those_of_unknown_landmarks_are_hard(
    draw: Draw, tmp_path: Path
) -> None:
    labels = []
    for number in range(20):
        image, box, points = draw(number)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image[..., ::-1])
        turned = points.copy()
        turned[2] = (points[0] + points[1]) / 2 + [0, 5]  # straight ahead
        if number in (4, 9):
            turned[2] += (points[1] - points[0]) * 0.6
        if number == 13:
            turned[:] = np.nan
        nothing = np.zeros((0, 4), np.float32)
        labels.append(Labels(f"{number}.png", box[None], turned[None], nothing))
    found = find_hard_cases(FinderNetwork(16), LabelledPictures(labels, tmp_path), 0)
    assert set(found.faces) == {4, 13} or set(found.faces) == {9, 13}
    assert found.backgrounds == ()


def test_a_background_that_a_network_takes_for_a_face_is_found_and_shown(tmp_path: Path) -> None:
    blocks = np.random.default_rng(1).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), np.kron(blocks, np.ones((20, 20, 1), np.uint8)))
    box = np.array([[10, 10, 60, 70]], np.float32)
    nowhere = np.full((1, 5, 2), np.nan, np.float32)
    labels = Labels("x.png", box, nowhere, np.zeros((0, 4), np.float32))
    source = LabelledPictures([labels], tmp_path)
    network = FinderNetwork(16)
    for layer in network.scores:
        torch.nn.init.constant_(layer.bias, 3.0)  # sees faces everywhere
    seeds = false_faces(network, source, 20)
    assert seeds
    for layer in network.scores:
        torch.nn.init.constant_(layer.bias, -9.0)
    assert false_faces(network, source, 20) == []
    shown = pictured((96, 96), HardCases.generator(seeds[0]), source)
    settings = SceneSettings(
        96, 96, background=1.0, hard_backgrounds=1.0, hard=HardCases((), (seeds[0],))
    )
    scene = compose(source, settings, np.random.default_rng(0))
    assert shown is not None
    assert len(scene.boxes_xyxy) == 0
    # Spoilt by light and noise, perhaps mirrored; still the same picture.
    likeness = [
        np.corrcoef(np.ravel(view).astype(float), np.ravel(scene.image).astype(float))[0, 1]
        for view in (shown, shown[:, ::-1])
    ]
    assert max(likeness) > 0.4


def test_a_run_looks_once_and_a_resumed_one_remembers(heads: Path, tmp_path: Path) -> None:
    tiny = FinderRecipe(channels=16, scenes_px=(64,), batch=2, steps=2, warmup_steps=1)
    start_finder_training(tiny, heads, tmp_path / "first", threads=1).run()
    first = tmp_path / "first" / "last.pt"
    hard = tiny.model_copy(update={"hard_faces": 0.5, "hard_backgrounds": 0.5})
    with pytest.raises(ConfigError, match="add --init-from"):
        start_finder_training(hard, heads, tmp_path / "run")
    trainer = start_finder_training(hard, heads, tmp_path / "run", init_from=first, threads=1)
    assert trainer.hard.faces
    trainer.run()
    again = start_finder_training(hard, heads, tmp_path / "run", resume=True, threads=1)
    assert again.hard == trainer.hard
    file = tmp_path / "run" / "hard-cases.json"
    file.write_text(json.dumps({"faces": [9999], "backgrounds": []}))
    with pytest.raises(ConfigError, match="of other pictures"):
        start_finder_training(hard, heads, tmp_path / "run", resume=True)
    file.write_text("{")
    with pytest.raises(ConfigError, match="not a list of hard cases"):
        start_finder_training(hard, heads, tmp_path / "run", resume=True)


def test_the_second_stage_is_a_shipped_recipe() -> None:
    recipe = load_finder_recipe("finder-tune")
    assert recipe.wants_hard_cases
    assert not load_finder_recipe("finder").wants_hard_cases
