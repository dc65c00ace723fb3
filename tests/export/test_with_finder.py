"""An export that seals a finder in: judged by the same gate, replayed by the same verb."""

# ruff: noqa: E402 - what follows the skips needs the packages

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

for _package in ("torch", "onnxscript", "onnxruntime", "ai_edge_litert"):
    pytest.importorskip(_package)

from limen.bundle import open_bundle
from limen.conformance import replay
from limen.export.errors import ExportError
from limen.export.exporter import export_bundle
from limen.export.finder import ExportedFinder
from limen.export.gate import Breach
from limen.export.recipe import ExportRecipe
from limen.manifest import GraphFinder
from limen.train.checkpoint import save_checkpoint
from limen.train.finder.checkpoint import load_finder

FINDER = Path(__file__).parents[2] / "checkpoints" / "finder.pt"


def test_finder_is_judged_with_the_embedder_and_replayed_on_the_board(
    tmp_path: Path,
    picture_folder: Path,
    tiny_network: Callable,
    tiny_checkpoint: Callable,
    recipe: Callable[..., ExportRecipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not FINDER.is_file():
        pytest.skip("the finder's checkpoint is not beside these tests")
    shipped = open_bundle()
    entry = shipped.manifest.finder
    assert isinstance(entry, GraphFinder)
    breach = Breach("finder.int8.onnx", "found", 0.9, 0.97)
    ready = ExportedFinder(
        entry,
        {graph.path: bytes(shipped.part(graph.path)) for graph in entry.graphs},
        load_finder(FINDER),
        {"step": 1},
        (breach,),
    )
    monkeypatch.setattr("limen.export.exporter.export_finder", lambda *_, **__: ready)
    save_checkpoint(tmp_path / "net.pt", tiny_checkpoint(tiny_network(1)))
    out = tmp_path / "with.limen"

    def export(allow: tuple[str, ...]) -> None:
        export_bundle(
            tmp_path / "net.pt",
            picture_folder,
            out,
            name="with",
            recipe=recipe(graphs=["onnx-float32"]),
            allow=allow,
            finder=(FINDER, tmp_path),
        )

    with pytest.raises(ExportError, match=r"finder\.int8\.onnx +found +0\.97"):
        export(())
    assert not out.exists()
    export((breach.key,))
    bundle = open_bundle(out)
    assert bundle.manifest.gate is not None
    assert bundle.manifest.gate.allowed == (breach.key,)
    rows = replay(bundle)
    assert {r.path for r in rows} == {
        "embedder.float32.onnx",
        *(graph.path for graph in entry.graphs),
    }
    assert {r.outcome for r in rows} == {"conforms"}
