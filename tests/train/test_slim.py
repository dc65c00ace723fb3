"""Slimming: a teacher's own width reproduces it; fewer channels come close to it."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from limen.train.network import BLOCKS, MobileNetEmbedder, scaled_channels  # noqa: E402
from limen.train.slim import SlimmingError, Teacher, slim  # noqa: E402


def write_teacher(path: Path, activation: str = "PRelu") -> None:
    """A MobileNetV1 as OpenCV Zoo's SFace lays it out, with random weights."""
    rng = np.random.default_rng(0)
    nodes, initialisers = [], []

    def constant(name: str, value: np.ndarray) -> str:
        initialisers.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def add(kind: str, source: str, values: list[np.ndarray], **attributes: object) -> str:
        name = f"{kind}{len(nodes)}"
        inputs = [constant(f"{name}_{i}", value) for i, value in enumerate(values)]
        nodes.append(helper.make_node(kind, [source, *inputs], [name], **attributes))
        return name

    def norm(source: str, channels: int) -> str:
        values = [rng.uniform(0.5, 1.5, channels), rng.normal(0, 0.3, channels)]
        values += [rng.normal(0, 0.2, channels), rng.uniform(0.5, 1.5, channels)]
        return add("BatchNormalization", source, values, epsilon=1e-3)

    def block(source: str, weight: np.ndarray) -> str:
        channels = len(weight)
        source = norm(add("Conv", source, [weight]), channels)
        return add(activation, source, [np.full((channels, 1, 1), 0.2)])

    channels = scaled_channels(1.0)
    x = block("data", rng.normal(0, 0.3, (channels[0], 3, 3, 3)))
    for (_, _stride), inputs, outputs in zip(BLOCKS, channels[:-1], channels[1:], strict=True):
        x = block(x, rng.normal(0, 0.4, (inputs, 1, 3, 3)))
        x = block(x, rng.normal(0, (2 / inputs) ** 0.5, (outputs, inputs, 1, 1)))
    x = norm(x, channels[-1])
    x = add("Gemm", x, [rng.normal(0, 0.01, (128, channels[-1] * 49)), np.zeros(128)])
    norm(x, 128)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in ("data", nodes[-1].output[0])
    ]
    graph = helper.make_graph(nodes, "teacher", ends[:1], ends[1:], initialisers)
    onnx.save(helper.make_model(graph), path)


def test_a_students_features_at_full_width_are_the_teachers(tmp_path) -> None:
    write_teacher(tmp_path / "teacher.onnx")
    teacher = Teacher(tmp_path / "teacher.onnx").eval()
    student = MobileNetEmbedder(width=1.0)
    crops = torch.randn(8, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    slim(teacher, student, crops, np.random.default_rng(0), positions_per_layer=4000)
    with torch.no_grad():
        wanted = teacher.body.features(crops).flatten()
        found = student.features(crops).flatten()
        thin = MobileNetEmbedder(width=0.5)
        slim(teacher, thin, crops, np.random.default_rng(0), positions_per_layer=4000)
        embeddings = torch.nn.functional.normalize(thin.eval()(crops))
        cosine = (embeddings * torch.nn.functional.normalize(teacher(crops))).sum(1)
    assert torch.nn.functional.cosine_similarity(wanted, found, dim=0) > 0.98
    assert cosine.min() > 0.8
    assert not thin.stem.activation.is_plain
    thin.set_fade(0)
    assert thin.stem.activation.is_plain


def test_another_architecture_is_refused_with_what_was_found(tmp_path) -> None:
    write_teacher(tmp_path / "relu.onnx", activation="LeakyRelu")
    with pytest.raises(SlimmingError, match="expected PRelu, found Conv"):
        Teacher(tmp_path / "relu.onnx")
