"""Shards are read back by limen, by the webdataset package, and refused where they are damaged."""

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from limen.images import decode_picture, encode_jpeg
from limen.train.pictures import PicturesError, open_pictures, part_by_hash
from limen.train.prepare.judging import Rules
from limen.train.prepare.plan import Options
from limen.train.prepare.preparation import prepare
from limen.train.shards import HELD_OUT, find_shards, iterate_shard
from limen.train.unlabelled import open_unlabelled

torch = pytest.importorskip("torch", reason="needs the extra 'train'")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A file that OpenCV reads as it reads SFace: crops in, 128 numbers out."""
    onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((128, 3, 112, 112)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[112, 112]),
            onnx.helper.make_node("Flatten", ["y"], ["z"]),
        ],
        "teacher",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 112, 112])],
        [onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 128])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    path = tmp_path_factory.mktemp("teacher") / "sface.onnx"
    path.write_bytes(model.SerializeToString())
    return path


PARTS = {"fit": range(16), "choose": range(16, 20), "report": range(20, 24)}
TAKES = 5


@pytest.fixture(scope="module")
def patterns(tmp_path_factory) -> Path:
    """Patterns instead of faces, laid out as CelebA, whose own partition sets the parts."""
    folder = tmp_path_factory.mktemp("patterns")
    identities, partition = [], []
    for number, classes in enumerate(PARTS.values()):
        for one in classes:
            for turn in range(TAKES):
                own, other = (
                    np.random.default_rng(s).uniform(0, 127, (12, 12, 3))
                    for s in (one, [one, turn])
                )
                image = cv2.resize((own + other).astype(np.uint8), (112, 112))
                name = f"{TAKES * one + turn:06d}.jpg"
                (folder / name).write_bytes(encode_jpeg(image))
                identities.append(f"{name} {one}\n")
                partition.append(f"{name} {number}\n")
    (folder / "identity_CelebA.txt").write_text("".join(identities))
    (folder / "list_eval_partition.txt").write_text("".join(partition))
    return folder


@pytest.fixture(scope="module")
def shards(patterns, teacher, tmp_path_factory) -> Path:
    """The patterns as crops that are aligned already, with a teacher."""
    out = tmp_path_factory.mktemp("shards") / "out"
    rules = Rules(near_score=1.0)
    prepare(Options(patterns, out, aligned=True, rules=rules, sface=teacher, shard_mb=0.3))
    return out


@pytest.fixture(scope="module")
def nobody(patterns, teacher, tmp_path_factory) -> Path:
    """The same, of nobody known."""
    out = tmp_path_factory.mktemp("nobody") / "out"
    rules = Rules(near_score=1.0, hold_out=0.2)
    prepare(Options(patterns, out, unlabelled=True, aligned=True, rules=rules, sface=teacher))
    return out


def test_training_reads_the_parts_of_the_shards(shards, patterns) -> None:
    sources = {
        s.key: s.note["source"] for shard in find_shards(shards) for s in iterate_shard(shard)
    }
    assert len(set(sources.values())) == len(sources) == 24 * TAKES
    for part, classes in PARTS.items():
        pictures = open_pictures(shards, part)
        assert list(pictures.names) == [f"celeba-{number:05d}" for number in classes]
        assert len(pictures) == TAKES * len(classes)
        for index, row in enumerate(pictures.identity):
            source = sources[pictures.paths[index]]
            assert pictures.names[row] == f"celeba-{int(source[:6]) // TAKES:05d}"
            original = decode_picture((patterns / source).read_bytes()).astype(np.float32)
            assert np.abs(pictures.decode(index, 112) - original).mean() < 6
        rows = pictures.teachers["sface"]
        assert rows.shape == (len(pictures), 128)
        assert rows.dtype == np.float32
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    with pytest.raises(
        PicturesError, match=r"no part 'cohort'; its shards hold choose, fit, report"
    ):
        open_pictures(shards, "cohort")


def test_the_teachers_row_is_of_its_own_crop(shards, teacher) -> None:
    net = cv2.dnn.readNetFromONNX(str(teacher))
    pictures = open_pictures(shards, "report")
    for index in range(4):
        net.setInput(cv2.dnn.blobFromImage(pictures.decode(index, 112)))
        row = net.forward().ravel()
        scores = pictures.teachers["sface"] @ (row / np.linalg.norm(row))
        assert scores[index] > 0.97, "compression of the crop apart"
        assert int(scores.argmax()) == index


def test_the_webdataset_package_reads_them(shards) -> None:
    webdataset = pytest.importorskip("webdataset", reason="needs the extra 'dev'")
    index = json.loads((shards / "shards.json").read_bytes())
    last = len(index["parts"]["fit"]["shards"]) - 1
    assert last > 0
    url = str(shards / f"fit-{{000000..{last:06d}}}.tar")
    dataset = webdataset.WebDataset(url, shardshuffle=False).decode("rgb8")
    samples = list(dataset)
    pictures = open_pictures(shards, "fit")
    assert [sample["__key__"] for sample in samples] == list(pictures.paths)
    for row, sample in enumerate(samples):
        assert sample["json"]["identity"] == pictures.names[pictures.identity[row]]
        assert sample["json"]["part"] == "fit"
        assert sample["sface.npy"].dtype == np.float16
        assert np.array_equal(
            decode_picture(pictures.encoded[row]), np.asarray(sample["webp"], np.uint8)
        )


def test_pictures_of_nobody_known_keep_a_share_apart(nobody) -> None:
    unlabelled = open_unlabelled(nobody)
    assert set(unlabelled.identity) == {-1}
    assert unlabelled.teachers["sface"].shape == (len(unlabelled), 128)
    index = json.loads((nobody / "shards.json").read_bytes())
    assert not index["labelled"]
    held_out = [s for shard in nobody.glob(f"{HELD_OUT}-*.tar") for s in iterate_shard(shard)]
    assert 0 < len(held_out) < len(unlabelled)
    assert len(held_out) + len(unlabelled) == 24 * TAKES
    assert not {s.key for s in held_out} & set(unlabelled.paths)
    assert all(s.note["identity"] is None and s.note["part"] == HELD_OUT for s in held_out)
    with pytest.raises(PicturesError, match="no part 'fit'"):
        open_pictures(nobody, "fit")


RECIPE = """
seed = 3
model = { width = 0.125, embedding_size = 128 }
batch = { identities = 4, per_identity = 3, unlabelled = 4 }

[[stages]]
name = "both"
steps = 4
objectives = [
    { kind = "triplet", mining = "batch-hard" },
    { kind = "distillation", teacher = "sface" },
]
"""


def test_limen_trains_on_shards_labelled_and_not(shards, nobody, tmp_path) -> None:
    pytest.importorskip("pytorch_metric_learning", reason="needs the extra 'train'")
    from limen.train.recipe import parse_recipe
    from limen.train.run import start_training

    trainer = start_training(
        parse_recipe(RECIPE, "test"), shards, tmp_path / "run", unlabelled=[nobody], threads=1
    )
    assert (trainer.fit.identity < 0).sum() == len(open_unlabelled(nobody))
    trainer.run()
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert trainer.step == 4
    assert all(np.isfinite(line["distillation"]) for line in log if "distillation" in line)


def shard(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


JPEG = encode_jpeg(np.full((32, 32, 3), 90, np.uint8))


def note(**values) -> bytes:
    return json.dumps(values).encode()


def test_shards_of_another_program_are_read_and_split_by_identity(tmp_path) -> None:
    files = {}
    for number in range(30):
        files[f"x/{number:03d}.jpg"] = JPEG
        files[f"x/{number:03d}.cls"] = str(number // 2).encode()
    shard(tmp_path / "imagenet-000000.tar", files)
    fit = open_pictures(tmp_path, "fit")
    expected = sorted(str(n) for n in range(15) if part_by_hash(str(n)) == "fit")
    assert list(fit.names) == expected
    assert len(fit) == 2 * len(expected)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"1.json": note(identity="a", part="fit")}, "key '1' has no picture"),
        ({"1.webp": JPEG, "1.json": b"{"}, "not valid JSON"),
        ({"1.webp": JPEG, "1.json": b"[" * 100_000}, "not valid JSON"),
        ({"1.webp": JPEG, "1.json": b"[]"}, "expected a JSON object"),
        ({"1.webp": JPEG, "1.json": note(identity=["a"], part="fit")}, "neither a name"),
        ({"1.webp": JPEG, "1.json": note(identity="a", part=3)}, "a part that is no name"),
        ({"1.webp": JPEG, "1.jpg": JPEG}, "a second picture under one key"),
        ({"1.webp": JPEG, "1.sface.npy": b"\x93NUMPY"}, "not an array"),
        ({"1.webp": JPEG, "1.json": note(identity="a", part="choose")}, "hold choose"),
        ({"1.webp": JPEG, "1.json": b" " * (2**20 + 1)}, "are more than"),
    ],
)  # fmt: skip
def test_a_damaged_shard_is_refused_by_key(tmp_path, files, said) -> None:
    shard(tmp_path / "fit-000000.tar", files)
    with pytest.raises(PicturesError, match=said):
        open_pictures(tmp_path, "fit")


def test_an_embedding_with_code_or_nonsense_inside_is_refused(tmp_path) -> None:
    for values in (np.array(["a"]), np.array([{}], object), np.ones((2, 2)), np.array([np.nan])):
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=True)
        shard(tmp_path / "fit-000000.tar", {"1.webp": JPEG, "1.sface.npy": buffer.getvalue()})
        with pytest.raises(PicturesError, match=r"'1.sface.npy'"):
            open_pictures(tmp_path, "fit")


def test_a_shard_that_is_cut_short_or_missing_is_told(shards, tmp_path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    last = sorted(copy.glob("fit-*.tar"))[-1]
    content = last.read_bytes()
    last.write_bytes(content[: len(content) // 2])
    with pytest.raises(PicturesError, match=f"expected {len(content)} bytes"):
        open_pictures(copy, "fit")
    last.unlink()
    with pytest.raises(PicturesError, match="no such file"):
        open_pictures(copy, "choose")
    (copy / "shards.json").unlink()
    shard(last, {"1.webp": JPEG})
    last.write_bytes(last.read_bytes()[:700])  # within the first picture
    with pytest.raises(PicturesError, match=r"cannot be read whole|cut short"):
        open_pictures(copy, "fit")
    (copy / "shards.json").write_text('{"format": "limen-shards", "labeled": true}')
    with pytest.raises(PicturesError, match=r"shards\.json: 'labelled'"):
        open_pictures(copy, "fit")
    (copy / "shards.json").write_text('{"parts": {"fit": "../x"}}')
    with pytest.raises(PicturesError, match=r"shards\.json"):
        open_pictures(copy, "fit")
