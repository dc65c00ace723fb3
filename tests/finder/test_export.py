"""A finder's graphs against torch on their own runtimes, and the bundle that carries them."""

import io
import json
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("litert_torch", reason="needs the export extra")

from limen.bundle import Bundle, parse_bundle  # noqa: E402
from limen.errors import BundleError, RuntimeUnavailableError  # noqa: E402
from limen.export.errors import ExportError  # noqa: E402
from limen.export.finder import (  # noqa: E402
    ExportedFinder,
    export_finder,
    finder_breaches,
)
from limen.export.finder_graphs import fold_finder  # noqa: E402
from limen.export.graphs import BuiltGraph  # noqa: E402
from limen.export.recipe import (  # noqa: E402
    FinderExport,
    FinderLimits,
    FinderPrecisionLimits,
    load_export_recipe,
)
from limen.finder import FinderDetector  # noqa: E402
from limen.haar import HaarDetector  # noqa: E402
from limen.manifest import FinderParity  # noqa: E402
from limen.runtimes import open_session  # noqa: E402
from limen.scaling import SCALING  # noqa: E402
from limen.sealing import seal_bundle  # noqa: E402
from limen.train.finder.checkpoint import FinderCheckpoint, save_finder  # noqa: E402
from limen.train.finder.network import FinderNetwork, answers  # noqa: E402
from limen.train.finder.recipe import FinderRecipe  # noqa: E402

SIZE = 64, 96
# A random network's faces hang on hundredths of a logit, which int8 does not keep.
LOOSE = FinderPrecisionLimits(
    int8=FinderLimits(), float16=FinderLimits(found=0.9, landmark_error=0.05)
)
RECIPE = FinderExport(graphs=load_export_recipe("full").graphs, limits=LOOSE)
SHIPPED = (resources.files("limen.models") / "default.limen").read_bytes()


def network(sees_faces: bool = True) -> FinderNetwork:
    """Random, scaled and shifted in every layer as a trained one is."""
    torch.manual_seed(5)
    made = FinderNetwork(16)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.bias, std=0.1)
    if sees_faces:
        for layer in made.scores:
            torch.nn.init.normal_(layer.weight, std=1.0)
            torch.nn.init.zeros_(layer.bias)
        for layer in made.landmarks:  # eyes that lie apart
            with torch.no_grad():
                layer.bias[:2], layer.bias[2:4] = -1, 1
    return made.eval()


def checkpoint(folder: Path, sees_faces: bool = True) -> Path:
    path = folder / "finder.pt"
    made = network(sees_faces)
    recipe = FinderRecipe(channels=16)
    provenance = {"data": {"faces": 60, "pictures": 60}}
    save_finder(
        path, FinderCheckpoint(recipe, 1, {}, made.state_dict(), None, provenance, {"score": 0.1})
    )
    return path


@pytest.fixture(scope="module")
def exported(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportedFinder:
    path = checkpoint(tmp_path_factory.mktemp("finder"))
    with pytest.MonkeyPatch.context() as few:
        few.setattr("limen.export.finder.RANGE_SCENES", 16)
        few.setattr("limen.export.finder.PARITY_SCENES", 40)
        return export_finder(path, heads, size=SIZE, recipe=RECIPE)


@pytest.fixture(scope="module")
def sealed(exported: ExportedFinder) -> bytes:
    """The shipped bundle with this finder in place of its own."""
    shipped = parse_bundle(SHIPPED, "shipped")
    with zipfile.ZipFile(io.BytesIO(SHIPPED)) as archive:
        kept = {part.path: archive.read(part.path) for part in shipped.manifest.parts()}
    manifest = shipped.manifest.model_copy(update={"finder": exported.entry})
    return seal_bundle(manifest, {**kept, **exported.parts})


@pytest.fixture(scope="module")
def bundle(sealed: bytes) -> Bundle:
    return parse_bundle(sealed, "with finder")


def test_folding_changes_nothing() -> None:
    made = network()
    picture = torch.rand(2, 3, *SIZE)
    with torch.inference_mode():
        assert torch.allclose(fold_finder(made)(picture), answers(made(picture)), atol=1e-4)


def test_float_graphs_find_what_torch_finds_and_the_proof_is_in_the_entry(
    exported: ExportedFinder,
) -> None:
    rows = {row.path: row for row in exported.entry.parity}
    assert len(rows) == 8
    for path in ("finder.float32.onnx", "finder.float32.tflite"):
        assert rows[path].found >= 0.999
        assert rows[path].mean_landmark_error < 1e-3
        assert rows[path].faces > 100
    assert exported.provenance["recipe"]["channels"] == 16
    assert {(g.path, g.batch, g.io) for g in exported.entry.graphs} == {
        ("finder.float32.onnx", None, "float32"),
        ("finder.float32.batch1.onnx", 1, "float32"),
        ("finder.float16.onnx", None, "float32"),
        ("finder.int8.onnx", None, "float32"),
        ("finder.float32.tflite", 1, "float32"),
        ("finder.float16.tflite", 1, "float32"),
        ("finder.int8.tflite", 1, "float32"),
        ("finder.int8.int8-io.tflite", 1, "int8"),
    }
    assert exported.breaches == ()


def test_int8_answers_keep_a_scale_of_their_own(
    exported: ExportedFinder, draw: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    """Landmarks, some strides at most, keep fine steps beside logits of some tens."""
    image, _, _ = draw(7)
    picture = SCALING.apply(np.asarray(cv2.resize(image, SIZE[::-1]), np.uint8))[None]
    for runtime, end in (("tflite", "tflite"), ("onnx", "onnx")):
        given = picture if runtime == "tflite" else picture.transpose(0, 3, 1, 2).copy()
        exact, rounded = (
            open_session(runtime, exported.parts[f"finder.{precision}.{end}"]).run(given)[0]
            for precision in ("float32", "int8")
        )
        assert np.abs(exact - rounded)[:, 5:].mean() < 0.08
        # With one scale for all answers no two of them could lie closer than this.
        shared_step = np.ptp(exact) / 255
        assert np.diff(np.unique(rounded[:96, 5:])).min() < 0.3 * shared_step


def test_the_bundles_finder_runs_on_both_runtimes_under_one_id(bundle: Bundle) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    first, second = (bundle.detector(runtime=runtime) for runtime in ("tflite", "onnx"))
    assert isinstance(first, FinderDetector)
    assert first.detector_id == second.detector_id
    found, again = first.detect(picture), second.detect(picture)
    assert len(found) == len(again)
    for face, other in zip(found, again, strict=True):
        assert np.allclose(face.landmarks_xy, other.landmarks_xy, atol=0.05)


def test_finder_and_its_precision_are_part_of_the_model_id(bundle: Bundle) -> None:
    ids = {
        bundle.embedder("onnx", "int8").model_id,
        bundle.embedder("onnx", "int8", HaarDetector()).model_id,
        bundle.embedder("onnx", "int8", bundle.detector(runtime="onnx", precision="int8")).model_id,
    }
    assert len(ids) == 3
    own = {bundle.detector(runtime=runtime).detector_id for runtime in ("onnx", "tflite")}
    assert len(own) == 1  # float32 is the same finder on both


def test_a_runtime_without_a_graph_of_the_finder_says_what_there_is() -> None:
    shipped = parse_bundle(SHIPPED, "shipped")
    with pytest.raises(RuntimeUnavailableError, match=r"no float16 finder graph .* onnx int8"):
        shipped.detector(runtime="onnx", precision="float16")


def changed(sealed: bytes, change, damage: str | None = None) -> bytes:  # type: ignore[no-untyped-def]
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sealed)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "manifest.json":
                manifest = json.loads(content)
                change(manifest["finder"])
                content = json.dumps(manifest).encode()
            if name == damage:
                content = content[:-1] + bytes([content[-1] ^ 1])
            new.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda finder: finder.update(width_px=100), "width_px"),
        (lambda finder: finder.update(min_confidence=0), "min_confidence"),
        (lambda finder: finder.update(kind="cascade"), "kind|finder"),
        (lambda finder: finder.update(graphs=[]), "graphs"),
        (
            lambda finder: finder["graphs"][0].update(equivalents=["0" * 64]),
            "not among its own 'equivalents'",
        ),
        (lambda finder: finder["graphs"].pop(), "inside but not in"),
        (lambda finder: finder.update(extra=1), "extra"),
    ],
)
def test_a_manifest_whose_finder_is_wrong_is_refused(sealed: bytes, change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BundleError, match=message):
        parse_bundle(changed(sealed, change), "edited")


def test_a_finders_graph_that_was_changed_is_refused(sealed: bytes) -> None:
    with pytest.raises(BundleError, match=r"finder.float32.onnx' was changed after sealing"):
        parse_bundle(changed(sealed, lambda _: None, "finder.float32.onnx"), "edited")


def test_a_graph_that_is_too_far_off_seals_nothing() -> None:
    graph = BuiltGraph("finder.int8.onnx", "onnx", "int8", b"x")
    row = FinderParity(
        path=graph.path,
        pictures=9,
        faces=50,
        found=0.9,
        mean_overlap=0.9,
        mean_landmark_error=0.01,
    )
    (breach,) = finder_breaches([graph], [row], FinderExport())
    assert (breach.key, breach.found, breach.allowed) == ("finder.int8.onnx:found", 0.9, 0.97)
    off = row.model_copy(update={"found": 0.98, "mean_landmark_error": float("nan")})
    (breach,) = finder_breaches([graph], [off], FinderExport())
    assert breach.key == "finder.int8.onnx:landmark_error"
    assert not finder_breaches([graph], [row.model_copy(update={"found": 0.98})], FinderExport())


def test_a_finder_that_sees_nothing_is_not_exported(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limen.export.finder_graphs.build_finder_graphs", lambda *_: [])
    monkeypatch.setattr("limen.export.finder.RANGE_SCENES", 8)
    monkeypatch.setattr("limen.export.finder.PARITY_SCENES", 8)
    with pytest.raises(ExportError, match="finds no face in 8 scenes"):
        export_finder(checkpoint(tmp_path, sees_faces=False), heads, size=SIZE)
