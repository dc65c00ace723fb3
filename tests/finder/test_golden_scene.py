"""The finder's graphs on the golden scene: this board's answers against the sealed ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")

from limen.arrays import pack_arrays, unpack_arrays
from limen.bundle import Bundle, open_bundle, parse_bundle
from limen.conformance import GraphConformance, replay
from limen.errors import BundleError
from limen.export.golden_part import golden_answers
from limen.golden import draw_golden_inputs
from limen.golden_finder import CELLS, golden_scene
from limen.manifest import GraphFinder, HaarFinder, Manifest
from limen.sealing import digest, seal_bundle

Change = Callable[[dict[str, np.ndarray]], None]


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return open_bundle()


def sealed_again(
    shipped: Bundle, change: Change = lambda _: None, edit: dict[str, object] | None = None
) -> Bundle:
    """The shipped bundle with its finder's answers in the golden part, and both then changed."""
    manifest = shipped.manifest
    assert isinstance(manifest.finder, GraphFinder)
    assert manifest.golden is not None
    parts = {part.path: bytes(shipped.part(part.path)) for part in manifest.parts()}
    expected = golden_answers(manifest.finder, parts)
    arrays = unpack_arrays(parts[manifest.golden.path], "golden")
    arrays = {n: rows for n, rows in arrays.items() if not n.startswith(("cells/", "answers/"))}
    for _, own in expected:
        arrays |= own
    change(arrays)
    content = pack_arrays(arrays)
    golden = manifest.golden.model_copy(
        update={
            "sha256": digest(content),
            "bytes": len(content),
            "finder": tuple(entry for entry, _ in expected),
        }
    )
    changed: Manifest = manifest.model_copy(update={"golden": golden, **(edit or {})})
    if isinstance(changed.finder, HaarFinder):
        parts = {n: c for n, c in parts.items() if not n.startswith("finder.")}
    return parse_bundle(seal_bundle(changed, {**parts, golden.path: content}), "again")


def of_finder(bundle: Bundle) -> dict[str, GraphConformance]:
    return {r.path: r for r in replay(bundle) if r.path.startswith("finder.")}


def test_exporting_board_finds_what_it_sealed(shipped: Bundle) -> None:
    rows = of_finder(sealed_again(shipped))
    assert set(rows) == {graph.path for graph in shipped.manifest.finder_graphs}
    assert {row.outcome for row in rows.values()} == {"conforms"}
    assert all(row.distance == 0 and row.changed == 0 for row in rows.values())
    assert all(r.decisions > CELLS // 2 for r in rows.values() if r.precision != "int8")


def test_answers_that_drifted_and_cells_decided_otherwise_are_named(shipped: Bundle) -> None:
    def drift(arrays: dict[str, np.ndarray]) -> None:
        arrays["answers/finder.float32.onnx"][:, 1:] += 0.01  # a hundredth of a stride
        arrays["answers/finder.float32.tflite"][0, 0] *= -1  # no face where one was

    rows = of_finder(sealed_again(shipped, drift))
    assert "answers are" in rows["finder.float32.onnx"].reason
    assert rows["finder.float32.onnx"].changed == 0
    assert "1 of" in rows["finder.float32.tflite"].reason
    assert rows["finder.float16.tflite"].outcome == "conforms"


def test_another_finders_answers_do_not_conform(shipped: Bundle) -> None:
    def swap(arrays: dict[str, np.ndarray]) -> None:
        for name in list(arrays):
            if name.startswith("answers/"):
                arrays[name] = arrays[name][::-1].copy()

    assert {row.outcome for row in of_finder(sealed_again(shipped, swap)).values()} == {"differs"}


@pytest.mark.parametrize("damage", ["missing", "shape", "not numbers", "far cell"])
def test_damaged_answers_are_refused(shipped: Bundle, damage: str) -> None:
    path = "answers/finder.float32.onnx"

    def change(arrays: dict[str, np.ndarray]) -> None:
        if damage == "missing":
            del arrays[path]
        elif damage == "shape":
            arrays[path] = arrays[path][:, :3].copy()
        elif damage == "not numbers":
            arrays[path] = np.full_like(arrays[path], np.nan)
        else:
            arrays["cells/finder.float32.onnx"][0] = 10**6

    row = of_finder(sealed_again(shipped, change))["finder.float32.onnx"]
    assert row.outcome == "differs"
    assert "answers of" in row.reason or "fewer than were expected" in row.reason


def test_golden_inputs_of_a_finder_that_is_not_there_are_refused(shipped: Bundle) -> None:
    bundle = sealed_again(shipped, edit={"finder": HaarFinder()})
    with pytest.raises(BundleError, match="the bundle has no such"):
        replay(bundle)


@pytest.mark.parametrize("size", [(256, 320), (64, 96), (512, 64)])
def test_scene_is_of_the_finders_size_and_of_whole_pixels(size: tuple[int, int]) -> None:
    pictures = draw_golden_inputs().pictures
    scene = golden_scene(pictures, *size)
    assert scene.shape == (*size, 3)
    assert {tuple(p) for p in scene[:40, :40].reshape(-1, 3)} <= {
        tuple(p) for p in pictures[0].reshape(-1, 3)
    }
