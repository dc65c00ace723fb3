"""Folders as people have them: corrupt pictures, copies, singletons, one identity."""

import json
import logging
import shutil

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("pytorch_metric_learning", reason="needs the extra 'train'")

from limen.train.augmentation.settings import preset  # noqa: E402
from limen.train.batches import PKSampler, UnlabelledSampler, batches  # noqa: E402
from limen.train.decoding import SoundDecoder  # noqa: E402
from limen.train.intake import checked  # noqa: E402
from limen.train.pictures import PicturesError, open_pictures, part_by_hash  # noqa: E402
from limen.train.ranks import Ranks  # noqa: E402
from limen.train.recipe import parse_recipe  # noqa: E402
from limen.train.run import start_training  # noqa: E402

RECIPE = """
input_px = 28
model = { width = 0.125, embedding_size = 16 }
batch = { identities = 4, per_identity = 2 }
[[stages]]
name = "a"
steps = 4
objectives = [{ kind = "supcon" }, { kind = "cosface" }]
"""


@pytest.fixture
def spoilt(folder, tmp_path):
    """A copy of the folder, and its classes of the part 'fit'."""
    copy = tmp_path / "pictures"
    shutil.copytree(folder, copy)
    return copy, sorted(p for p in copy.iterdir() if part_by_hash(p.name) == "fit")


def train(data, out):
    trainer = start_training(parse_recipe(RECIPE, "test"), data, out, threads=1)
    trainer.run()
    return trainer


def test_corrupt_copied_and_single_pictures_are_told_and_training_goes_on(
    spoilt, tmp_path, caplog
) -> None:
    data, classes = spoilt
    (classes[0] / "0.jpg").write_bytes(b"")
    (classes[1] / "0.jpg").write_bytes(b"no picture at all")
    whole = (classes[2] / "0.jpg").read_bytes()
    (classes[2] / "0.jpg").write_bytes(whole[: len(whole) // 2])  # its header is sound
    shutil.copy(classes[3] / "0.jpg", classes[3] / "copy.jpg")
    shutil.copy(classes[3] / "1.jpg", classes[4] / "mislabelled.jpg")
    for number in range(1, 5):
        (classes[5] / f"{number}.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        trainer = train(data, tmp_path / "run")
    assert trainer.step == 4
    told = caplog.text
    assert "2 of" in told
    assert "cannot be read and are left out" in told
    assert f"{classes[0].name}/0.jpg" in told
    assert "2 pictures are copies of another; 1 pictures are filed under two identities" in told
    assert "have a single picture, no mated pair" in told


def test_a_picture_that_only_decoding_shows_as_broken_has_a_substitute(spoilt, caplog) -> None:
    data, classes = spoilt
    whole = (classes[2] / "0.jpg").read_bytes()
    (classes[2] / "0.jpg").write_bytes(whole[: len(whole) // 2])
    fit = checked(open_pictures(data, "fit"))
    broken = fit.paths.index(f"{classes[2].name}/0.jpg")
    with caplog.at_level(logging.WARNING):
        index, crop = SoundDecoder(fit, 28).decode(broken)
    if index == broken:  # a decoder that makes do with half a JPEG
        assert crop.shape == (28, 28, 3)
    else:
        assert fit.identity[index] == fit.identity[broken]
        assert "cannot be read and is skipped" in caplog.text


def test_too_many_corrupt_pictures_stop_before_training(spoilt, tmp_path) -> None:
    data, classes = spoilt
    for folder in classes[: len(classes) // 2]:
        for picture in folder.iterdir():
            picture.write_bytes(b"broken")
    with pytest.raises(PicturesError, match="more than 10%"):
        train(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pictures_too_small_to_read_are_refused_with_the_size(spoilt, tmp_path) -> None:
    data, classes = spoilt
    for folder in classes:
        for picture in folder.iterdir():
            cv2.imwrite(str(picture), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(PicturesError, match="8 x 8 px is too small"):
        train(data, tmp_path / "run")


def test_one_identity_is_refused(spoilt, tmp_path) -> None:
    data, classes = spoilt
    for folder in classes[1:]:
        shutil.rmtree(folder)
    with pytest.raises(PicturesError, match="needs two or more"):
        train(data, tmp_path / "run")


def test_singletons_alone_are_refused(spoilt, tmp_path) -> None:
    data, classes = spoilt
    for folder in classes:
        for picture in sorted(folder.iterdir())[1:]:
            picture.unlink()
    with pytest.raises(PicturesError, match="two pictures or more"):
        train(data, tmp_path / "run")


def test_what_breaks_in_a_worker_ends_the_run(folder, tmp_path, monkeypatch) -> None:
    def out_of_memory(*_):
        raise MemoryError("no room for a crop")

    monkeypatch.setattr("limen.train.batches.augment", out_of_memory)
    with pytest.raises(MemoryError, match="no room"):
        train(folder, tmp_path / "run")


def test_parts_of_a_batch_are_the_batch_of_one_process(folder) -> None:
    fit = open_pictures(folder, "fit")
    sampler, nobody = PKSampler(fit, 4, 3, 0), UnlabelledSampler(fit, 0, 0)

    def made(ranks):
        source = batches(
            sampler, SoundDecoder(fit, 28), lambda _: preset("door"), 0, range(2), nobody, 1, ranks
        )
        return list(source)

    whole = made(Ranks())
    parts = [made(Ranks(rank, 3)) for rank in range(3)]
    for step, batch in enumerate(whole):
        for field in ("crops", "identity", "index"):
            together = np.concatenate([getattr(part[step], field) for part in parts])
            assert np.array_equal(together, getattr(batch, field))


def test_a_run_tells_its_spread_in_the_log(folder, tmp_path) -> None:
    train(folder, tmp_path)
    row = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert {"loss", "supcon", "cosface", "spread", "non_mated_cosine"} <= set(row)
