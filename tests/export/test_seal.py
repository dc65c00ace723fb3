"""Sealing: deterministic, whole or not at all, and checked before it is believed."""

# ruff: noqa: E402 - what follows the skips needs the packages

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

for _package in ("torch", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
    pytest.importorskip(_package)

import limen
from limen.errors import BundleError
from limen.export.graphs import BuiltGraph, graph_entries
from limen.manifest import Manifest
from limen.sealing import seal_bundle, write_bundle

ONNX = BuiltGraph("a.onnx", "onnx", "float32", b"one")
TFLITE = BuiltGraph("b.tflite", "tflite", "float32", b"two")
INT8 = BuiltGraph("c.tflite", "tflite", "int8", b"three")


@pytest.fixture
def parts(exported: Any) -> dict[str, bytes]:
    with zipfile.ZipFile(exported.path) as archive:
        return {p.path: archive.read(p.path) for p in exported.manifest.parts()}


def test_sealing_twice_gives_the_same_bytes(exported: Any, parts: dict[str, bytes]) -> None:
    backwards = dict(reversed(parts.items()))
    assert seal_bundle(exported.manifest, parts) == seal_bundle(exported.manifest, backwards)
    assert seal_bundle(exported.manifest, parts) == exported.path.read_bytes()


def test_manifest_is_first_and_parts_are_plain(exported: Any, parts: dict[str, bytes]) -> None:
    sealed = seal_bundle(exported.manifest, parts)
    with zipfile.ZipFile(io.BytesIO(sealed)) as archive:
        infos = archive.infolist()
    assert [i.filename for i in infos] == ["manifest.json", *sorted(parts)]
    assert {i.date_time for i in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {i.external_attr >> 16 for i in infos} == {0o100644}
    assert {i.compress_type for i in infos} == {zipfile.ZIP_STORED}


def test_written_bundle_opens(exported: Any, parts: dict[str, bytes], tmp_path: Path) -> None:
    write_bundle(tmp_path / "again.limen", exported.manifest, parts)
    assert limen.open_bundle(tmp_path / "again.limen").manifest == exported.manifest


def test_missing_part_is_refused(exported: Any, parts: dict[str, bytes]) -> None:
    del parts["embedder.int8.onnx"]
    with pytest.raises(BundleError, match=r"embedder\.int8\.onnx"):
        seal_bundle(exported.manifest, parts)


def test_part_that_is_not_the_announced_one_is_refused_and_keeps_the_old_file(
    exported: Any, parts: dict[str, bytes], tmp_path: Path
) -> None:
    target = tmp_path / "kept.limen"
    target.write_bytes(b"old")
    parts["embedder.int8.onnx"] = parts["embedder.int8.onnx"][::-1]
    with pytest.raises(BundleError, match=r"embedder\.int8\.onnx"):
        write_bundle(target, exported.manifest, parts)
    assert target.read_bytes() == b"old"


def test_only_float32_graphs_are_equivalents() -> None:
    first, second, third = graph_entries([ONNX, TFLITE, INT8])
    assert set(first.equivalents) == {first.sha256, second.sha256} == set(second.equivalents)
    assert third.equivalents == (third.sha256,)


def test_manifest_survives_the_round_trip(exported: Any) -> None:
    opened = limen.open_bundle(exported.path).manifest
    assert isinstance(opened, Manifest)
    assert opened == exported.manifest
