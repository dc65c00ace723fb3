"""A network of somebody else's, sealed, judged, and used."""

# ruff: noqa: E402 - what follows the skips needs the packages

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

for _package in ("onnx", "onnxruntime"):
    pytest.importorskip(_package)

import onnx
import onnxruntime
from foreign_network import RAW, foreign
from onnx import numpy_helper

from limen.bundle import open_bundle
from limen.conformance import replay
from limen.embedder import unit_norm
from limen.errors import LimenError
from limen.export.errors import ExportError
from limen.export.pack import pack_bundle
from limen.export.recipe import load_export_recipe
from limen.images import letterbox
from limen.sealing import digest


def test_packed_network_is_that_file_with_its_preprocessing(tmp_path: Path) -> None:
    source = foreign(tmp_path / "net.onnx")
    out = tmp_path / "own.limen"
    manifest = pack_bundle(
        source, out, name="own", licence="Apache-2.0", terms="As it says.", preprocessing=RAW
    )
    assert manifest.graphs[0].sha256 == digest(source.read_bytes())
    assert manifest.embedding_size == 16
    assert manifest.gate is not None
    assert manifest.gate.reference == "embedder.float32.onnx"
    assert manifest.gate.graphs[0].min_cosine == pytest.approx(1, abs=1e-6)
    assert manifest.provenance["packed_from"]["embedder"]["file"] == "net.onnx"
    assert str(tmp_path) not in json.dumps(manifest.model_dump(mode="json"))
    bundle = open_bundle(out)
    crops = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(source.read_bytes())
    by_hand = [
        session.run(None, {"data": crop[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)})[0]
        for crop in crops
    ]
    np.testing.assert_allclose(
        bundle.embedder().embed(crops), unit_norm(np.concatenate(by_hand)), atol=1e-5
    )
    assert {r.outcome for r in replay(bundle)} == {"conforms"}
    # A door aligns at 112 px, whatever its network takes.
    at_the_door = np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    scaled = np.stack([letterbox(crop, 32) for crop in at_the_door])
    np.testing.assert_array_equal(
        bundle.embedder().embed(at_the_door), bundle.embedder().embed(scaled)
    )


def test_data_gives_a_gate_and_int8_answers_to_the_file(
    tmp_path: Path, picture_folder: Path
) -> None:
    recipe = load_export_recipe("board").model_copy(
        update={"resamples": 20, "latency_runs": 1, "threads": (1,)}
    )
    limits = recipe.limits.int8.model_copy(update={"latency_ratio": None})
    recipe = recipe.model_copy(update={"limits": recipe.limits.model_copy(update={"int8": limits})})
    manifest = pack_bundle(
        foreign(tmp_path / "net.onnx", batch="n"),
        tmp_path / "own.limen",
        name="own",
        licence="Apache-2.0",
        terms="As it says.",
        preprocessing=RAW,
        data_folder=picture_folder,
        int8=True,
        recipe=recipe,
    )
    assert manifest.gate is not None
    assert (manifest.gate.part, manifest.gate.subjects) == ("report", 4)
    assert [g.precision for g in manifest.graphs] == ["float32", "int8"]
    assert 0.95 < manifest.gate.graphs[1].mean_cosine < 1
    assert manifest.default_precision == "float32"  # so few people prove nothing


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        ("licence", "licence of the weights is required"),
        ("missing", "cannot be read"),
        ("suffix", r"expected an \.onnx or \.tflite"),
        ("domain", "custom operators"),
        ("shape", "square crops"),
        ("detector", "not a YuNet file|is refused"),
        ("int8", "--data for the activations"),
    ],
)
def test_what_cannot_be_packed_is_refused_and_nothing_is_written(
    broken: str, match: str, tmp_path: Path
) -> None:
    source = foreign(tmp_path / "net.onnx", domain="evil" if broken == "domain" else "")
    arguments: dict[str, object] = {
        "licence": " " if broken == "licence" else "Apache-2.0",
        "int8": broken == "int8",
    }
    if broken == "missing":
        source = tmp_path / "none.onnx"
    elif broken == "suffix":
        source = source.rename(tmp_path / "net.pb")
    elif broken == "shape":
        foreign(source, width=28)
    elif broken == "detector":
        arguments["detector"] = source
    with pytest.raises(LimenError, match=match):
        pack_bundle(
            source,
            tmp_path / "own.limen",
            name="own",
            terms="As it says.",
            preprocessing=RAW,
            **arguments,  # type: ignore[arg-type]
        )
    assert not (tmp_path / "own.limen").exists()


def test_network_that_tells_nobody_from_anybody_is_refused(tmp_path: Path) -> None:
    source = foreign(tmp_path / "net.onnx")
    model = onnx.load(str(source))
    (dense,) = [t for t in model.graph.initializer if t.name == "dense"]
    dense.CopyFrom(numpy_helper.from_array(np.zeros(tuple(dense.dims), np.float32), "dense"))
    onnx.save(model, str(source))
    with pytest.raises(ExportError, match="no embeddings"):
        pack_bundle(
            source,
            tmp_path / "own.limen",
            name="own",
            licence="CC0-1.0",
            terms="Any.",
            preprocessing=RAW,
        )
