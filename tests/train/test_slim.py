"""Slimming: a teacher's own width reproduces it; fewer channels come close to it."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")
onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from limen.train.networks.mobilenet import BLOCKS, MobileNetEmbedder, scaled_channels  # noqa: E402
from limen.train.networks.mobilenetv2 import MobileNetV2Embedder  # noqa: E402
from limen.train.slim import slim  # noqa: E402
from limen.train.teacher_graph import SlimmingError, Teacher  # noqa: E402


def write_teacher(path: Path, activation: str = "PRelu", flat: bool = False) -> None:
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

    def block(source: str, weight: np.ndarray, stride: int = 1) -> str:
        channels = len(weight)
        source = norm(add("Conv", source, [weight], strides=[stride, stride]), channels)
        return add(activation, source, [np.full((channels, 1, 1), 0.2)])

    channels = scaled_channels(1.0)
    x = block("data", rng.normal(0, 0.3, (channels[0], 3, 3, 3)))
    for (_, stride), inputs, outputs in zip(BLOCKS, channels[:-1], channels[1:], strict=True):
        x = block(x, rng.normal(0, 0.4, (inputs, 1, 3, 3)), 1 if flat else stride)
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
    with pytest.raises(SlimmingError, match="layer 2: expected PRelu, found Conv"):
        Teacher(tmp_path / "relu.onnx")
    write_teacher(tmp_path / "flat.onnx", flat=True)
    with pytest.raises(SlimmingError, match=r"expected a stride of \(2, 2\), found \(1, 1\)"):
        Teacher(tmp_path / "flat.onnx")


def test_a_longer_or_shorter_graph_is_refused(tmp_path) -> None:
    write_teacher(tmp_path / "teacher.onnx")
    model = onnx.load(tmp_path / "teacher.onnx")
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    longer, shorter = onnx.ModelProto(), onnx.ModelProto()
    longer.CopyFrom(model)
    longer.graph.node.append(gemm)
    onnx.save(longer, tmp_path / "longer.onnx")
    shorter.CopyFrom(model)
    del shorter.graph.node[5:]
    onnx.save(shorter, tmp_path / "shorter.onnx")
    with pytest.raises(SlimmingError, match="expected the end of the graph, found Gemm"):
        Teacher(tmp_path / "longer.onnx")
    with pytest.raises(SlimmingError, match="found the end of the graph: only a plain MobileNetV1"):
        Teacher(tmp_path / "shorter.onnx")


def test_a_file_that_is_no_graph_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"this is not a graph")
    with pytest.raises(SlimmingError, match=r"noise\.onnx: expected an ONNX file"):
        Teacher(tmp_path / "noise.onnx")
    with pytest.raises(SlimmingError, match="check the path"):
        Teacher(tmp_path / "nowhere.onnx")


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (
            lambda: MobileNetV2Embedder(0.25),
            "expected the family 'mobilenet', found 'mobilenet-v2'",
        ),
        (lambda: MobileNetEmbedder(0.25, input_px=56), "expected input_px = 112"),
        (lambda: MobileNetEmbedder(0.25, 64), "expected model.embedding_size = 128"),
        (lambda: MobileNetEmbedder(1.5), "set model.width to 1 or less"),
    ],
)
def test_a_student_that_cannot_be_slimmed_to_is_refused(student, message, tmp_path) -> None:
    write_teacher(tmp_path / "teacher.onnx")
    teacher = Teacher(tmp_path / "teacher.onnx")
    with pytest.raises(SlimmingError, match=message):
        slim(teacher, student(), torch.zeros(1, 3, 112, 112), np.random.default_rng(0))
