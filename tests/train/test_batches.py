"""Pictures, the P x K sampler, and augmentation."""

import numpy as np
import pytest

from limen.train.augmentation.pipeline import augment
from limen.train.augmentation.settings import Augmentation
from limen.train.batches import PKSampler, batches
from limen.train.decoding import SoundDecoder
from limen.train.pictures import PicturesError, open_pictures, part_by_hash


def test_parts_share_no_identity_and_hold_everything(folder) -> None:
    names = [set(open_pictures(folder, part).names) for part in ("fit", "choose", "report")]
    assert not names[0] & names[1]
    assert not names[0] & names[2]
    assert not names[1] & names[2]
    assert len(names[0] | names[1] | names[2]) == 24
    assert part_by_hash("class-000") == part_by_hash("class-000")


def test_a_batch_has_p_identities_with_k_pictures_each(folder) -> None:
    fit = open_pictures(folder, "fit")
    sampler = PKSampler(fit, identities=5, per_identity=4, seed=0)
    index = sampler.indices(7)
    identity = fit.identity[index]
    assert len(set(identity.tolist())) == 5
    assert all(np.sum(identity == i) == 4 for i in set(identity.tolist()))
    assert len(set(index.tolist())) == 20
    assert np.array_equal(index, sampler.indices(7))
    assert not np.array_equal(index, sampler.indices(8))


def test_every_identity_comes_once_an_epoch(folder) -> None:
    fit = open_pictures(folder, "fit")
    sampler = PKSampler(fit, identities=3, per_identity=2, seed=1)
    seen = [
        identity
        for step in range(sampler.batches_per_epoch)
        for identity in set(fit.identity[sampler.indices(step)].tolist())
    ]
    assert len(seen) == len(set(seen)) == 3 * sampler.batches_per_epoch


def test_batches_do_not_depend_on_workers_or_start(folder) -> None:
    fit = open_pictures(folder, "fit")
    sampler = PKSampler(fit, 3, 2, 0)

    def made(steps: range, workers: int) -> list[np.ndarray]:
        settings = lambda step: Augmentation()  # noqa: E731
        made = batches(sampler, SoundDecoder(fit, 112), settings, 0, steps, workers=workers)
        return [batch.crops for batch in made]

    one, two = made(range(5), 1), made(range(2, 5), 3)
    assert len(one) == 5
    assert all(np.array_equal(a, b) for a, b in zip(one[2:], two, strict=True))


def test_augmentation_keeps_shape_and_type_and_can_be_switched_off() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    for seed in range(20):
        changed = augment(crop, Augmentation(), np.random.default_rng(seed))
        assert changed.shape == crop.shape
        assert changed.dtype == np.uint8
    nothing = Augmentation(
        flip=False,
        shift_px=0,
        scale=0,
        rotate_deg=0,
        light=0,
        grey=0,
        blur=0,
        low_resolution=0,
        noise=0,
    )
    same = augment(crop, nothing, np.random.default_rng(0))
    assert np.abs(same.astype(int) - crop).max() <= 1


def test_a_folder_with_one_identity_or_singletons_is_refused(tmp_path) -> None:
    from limen.images import encode_jpeg

    with pytest.raises(PicturesError, match="found none"):
        open_pictures(tmp_path / "missing", "fit")
    names = [name for name in (f"p{i}" for i in range(40)) if part_by_hash(name) == "fit"][:3]
    picture = encode_jpeg(np.zeros((112, 112, 3), np.uint8))
    for name in names[:1]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(picture)
    with pytest.raises(PicturesError, match="two or more"):
        open_pictures(tmp_path, "fit")
    for name in names[1:]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(picture)
    with pytest.raises(PicturesError, match="mated pairs"):
        PKSampler(open_pictures(tmp_path, "fit"), 2, 2, 0)
