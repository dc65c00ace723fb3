"""Bundles that were made to harm: each attack that docs/bundle.md lists, tried."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from limen.arrays import unpack_arrays
from limen.bundle import MAX_BUNDLE_BYTES, open_bundle, parse_bundle
from limen.errors import BundleError
from limen.trust import NO_TRUST

Attack = tuple[str, bytes]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "bundle.md"


def refused(content: bytes, match: str) -> None:
    with pytest.raises(BundleError, match=match):
        parse_bundle(content, "attack")


def test_the_bundle_that_the_attacks_are_made_from_opens(by_hand: SimpleNamespace) -> None:
    bundle = parse_bundle(by_hand.sealed(), "by hand")
    pytest.importorskip("onnxruntime")
    crop = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), np.uint8)
    assert bundle.embedder("onnx").embed(crop).shape == (2, 8)


# The archive.


def test_zip_bomb_is_refused_before_it_swells(by_hand: SimpleNamespace) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * 200_000_000)
    tracemalloc.start()
    refused(buffer.getvalue(), "compressed")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_overlapping_parts_are_refused(by_hand: SimpleNamespace) -> None:
    """The bomb that needs no nesting: many parts over the same bytes (Fifield, WOOT 2019)."""
    content = by_hand.archive([("a", b"x" * 50), ("b", b"y" * 50)], central={"offset": 10})
    refused(content, "not a whole bundle")
    refused(
        by_hand.archive([("a", b"x" * 50)], central={"size": 99, "packed": 99}),
        "not a whole bundle",
    )


@pytest.mark.parametrize(
    "name",
    ["../evil.py", "/etc/passwd", "a/b", "a\\b", "C:evil", "..", ".hidden", "", "a\0b", "ä", "A"],
)
def test_path_outside_is_refused(by_hand: SimpleNamespace, name: str) -> None:
    refused(by_hand.archive([(name, b"x")]), "no part's name")


def test_name_that_would_drive_a_terminal_is_shown_harmless(by_hand: SimpleNamespace) -> None:
    with pytest.raises(BundleError) as caught:
        parse_bundle(by_hand.archive([(b"\x1b]0;pwned\x07", b"x")]), "attack")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o120777, 0o040755, 0o010644, 0o020666])
def test_symlink_folder_pipe_or_device_is_refused(by_hand: SimpleNamespace, mode: int) -> None:
    refused(by_hand.archive([("a", b"x")], central={"attributes": mode << 16}), "link or a folder")


def test_duplicate_entry_is_refused(by_hand: SimpleNamespace) -> None:
    refused(by_hand.archive([("a", b"x"), ("a", b"y")]), "twice")


@pytest.mark.parametrize(
    "local", [{"name": b"b"}, {"crc": 7}, {"size": 2}, {"method": 8}, {"flags": 8}, {"extra": b"z"}]
)
def test_part_that_two_readers_would_see_differently_is_refused(
    by_hand: SimpleNamespace, local: dict[str, object]
) -> None:
    refused(by_hand.archive([("a", b"x")], local=local), "not a whole bundle")


@pytest.mark.parametrize(
    "central", [{"flags": 1}, {"flags": 0x2008}, {"extra": b"1234"}, {"comment": b"hi"}]
)
def test_encryption_streams_and_extra_fields_are_refused(
    by_hand: SimpleNamespace, central: dict[str, object]
) -> None:
    refused(by_hand.archive([("a", b"x")], central=central), "part 'a'")


def test_bytes_before_between_and_after_parts_are_refused(by_hand: SimpleNamespace) -> None:
    whole = by_hand.sealed()
    refused(b"#!/bin/sh\n" + whole, "not a whole bundle")
    refused(whole + b"x", "not a whole bundle")
    refused(by_hand.archive([("a", b"x")], gap=b"hidden"), "not a whole bundle")
    refused(by_hand.archive([("a", b"x")], comment=b"hidden"), "not a whole bundle")


def test_directory_of_a_million_parts_is_refused_at_once(by_hand: SimpleNamespace) -> None:
    refused(by_hand.archive([("a", b"x")], count=65_535), "more than 64")
    many = by_hand.archive([(f"p{i}", b"") for i in range(3000)])
    started = time.perf_counter()
    refused(many, "more than 64")
    assert time.perf_counter() - started < 1


def test_changed_byte_in_the_manifest_is_refused(by_hand: SimpleNamespace) -> None:
    content = bytearray(by_hand.sealed())
    content[content.index(b"by-hand")] ^= 1
    refused(bytes(content), "checksum")


# The file.


def test_pipe_device_or_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.limen"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(BundleError, match=r"no plain file|cannot be read"):
            open_bundle(path, NO_TRUST)


def test_file_larger_than_any_bundle_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.limen"
    with large.open("wb") as file:
        file.truncate(MAX_BUNDLE_BYTES + 1)  # sparse: takes no disk
    with pytest.raises(BundleError, match="larger than"):
        open_bundle(large, NO_TRUST)


# The manifest.


def test_manifest_that_says_a_key_twice_is_refused(by_hand: SimpleNamespace) -> None:
    refused(by_hand.archive([("manifest.json", b'{"name": "a", "name": "b"}')]), "not valid JSON")


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b'{"a":' * 50_000, b"1" * 50_000, b'{"x": NaN}', b"\xff\xfe", b"null", b"[]"],
)
def test_manifest_that_is_deep_huge_or_no_json_is_refused(
    by_hand: SimpleNamespace, text: bytes
) -> None:
    refused(by_hand.archive([("manifest.json", text)]), "manifest.json")


def test_manifest_larger_than_its_bound_is_refused(by_hand: SimpleNamespace) -> None:
    refused(by_hand.archive([("manifest.json", b" " * (2**21 + 1))]), "larger than 2 MiB")


def test_manifest_cannot_name_itself_or_a_part_twice(by_hand: SimpleNamespace) -> None:
    graphs = {"embedder.float32.onnx": by_hand.onnx_graph()}
    values = by_hand.manifest_of(graphs)
    for path in ("manifest.json", "signatures.json"):
        other = json.loads(json.dumps(values))
        other["graphs"].append({**values["graphs"][0], "path": path})
        parts = [("manifest.json", json.dumps(other).encode()), *graphs.items()]
        refused(by_hand.archive(parts), "names a part twice")
    values["graphs"] *= 2
    parts = [("manifest.json", json.dumps(values).encode()), *graphs.items()]
    refused(by_hand.archive(parts), "names a part twice")


# The graphs.


def test_onnx_that_asks_for_external_data_is_refused(by_hand: SimpleNamespace) -> None:
    field = by_hand.field
    outside = field(13, field(1, "location") + field(2, "../../etc/shadow"))
    for tensor in (outside, field(14, 1)):
        graph = by_hand.onnx_graph(tensor=tensor)
        refused(by_hand.sealed({"a.onnx": graph}), "external data")


def test_onnx_external_data_inside_an_attribute_is_refused(by_hand: SimpleNamespace) -> None:
    field = by_hand.field
    hidden = field(5, field(1, "value") + field(5, field(14, 1)) + field(20, 4))
    refused(by_hand.sealed({"a.onnx": by_hand.onnx_graph(node=hidden)}), "external data")


def test_onnx_with_custom_operators_is_refused(by_hand: SimpleNamespace) -> None:
    graph = by_hand.onnx_graph(node=by_hand.field(7, "evil.example"))
    refused(by_hand.sealed({"a.onnx": graph}), "custom operators of domain 'evil.example'")
    unknown = by_hand.field(1, by_hand.onnx_node("Evil", ["crops"], "x"))
    refused(by_hand.sealed({"a.onnx": by_hand.onnx_graph(graph=unknown)}), "operator 'Evil'")


@pytest.mark.parametrize("operator", ["Loop", "If", "Scan", "Expand", "Tile", "ConstantOfShape"])
def test_onnx_that_could_run_or_grow_without_end_is_refused(
    by_hand: SimpleNamespace, operator: str
) -> None:
    node = by_hand.field(1, by_hand.onnx_node(operator, ["crops"], "x"))
    refused(by_hand.sealed({"a.onnx": by_hand.onnx_graph(graph=node)}), f"operator '{operator}'")


def test_onnx_with_functions_subgraphs_or_training_is_refused(by_hand: SimpleNamespace) -> None:
    field = by_hand.field
    for graph, match in (
        (by_hand.onnx_graph(model=field(25, field(1, "f"))), "of its own"),
        (by_hand.onnx_graph(model=field(20, b"")), "training graph"),
        (by_hand.onnx_graph(node=field(5, field(6, b""))), "graphs inside graphs"),
        (by_hand.onnx_graph(graph=field(15, b"")), "sparse"),
        (by_hand.onnx_graph(model=field(7, b"")), "no operators|found 2"),
    ):
        refused(by_hand.sealed({"a.onnx": graph}), match)


def test_onnx_tensor_that_claims_more_than_it_carries_is_refused(by_hand: SimpleNamespace) -> None:
    huge = by_hand.field(5, by_hand.onnx_tensor("huge", (2**40,), b"\0" * 4))
    refused(by_hand.sealed({"a.onnx": by_hand.onnx_graph(graph=huge)}), "claims more elements")


def test_onnx_of_a_million_fields_is_refused_in_bounded_time(by_hand: SimpleNamespace) -> None:
    graph = by_hand.onnx_graph(model=by_hand.field(1, 8) * 2_000_000)
    started = time.perf_counter()
    refused(by_hand.sealed({"a.onnx": graph}), "more than 300,000 fields")
    assert time.perf_counter() - started < 10


def test_file_that_is_no_onnx_is_refused(by_hand: SimpleNamespace) -> None:
    for content in (b"\x7fELF" + b"\0" * 60, b"\xff" * 60, by_hand.onnx_graph()[:-40]):
        refused(by_hand.sealed({"a.onnx": content}), "is refused")


def test_tflite_with_custom_operators_is_refused(by_hand: SimpleNamespace) -> None:
    def custom(schema, model) -> None:
        model.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
        model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        model.operatorCodes[0].customCode = "FlexReadFile"

    graph = by_hand.tflite_graph(change=custom)
    refused(by_hand.sealed({"a.tflite": graph}), "custom operators")


@pytest.mark.parametrize("name", ["WHILE", "IF", "CALL", "CALL_ONCE", "FILL", "VAR_HANDLE", "LSTM"])
def test_tflite_that_could_run_or_grow_without_end_is_refused(
    by_hand: SimpleNamespace, name: str
) -> None:
    def loop(schema, model) -> None:
        number = getattr(schema.BuiltinOperator, name)
        model.operatorCodes[0].builtinCode = number
        model.operatorCodes[0].deprecatedBuiltinCode = min(number, 127)

    refused(by_hand.sealed({"a.tflite": by_hand.tflite_graph(change=loop)}), "builtin operator")


def test_tflite_that_names_what_is_not_there_is_refused(by_hand: SimpleNamespace) -> None:
    def operator(_schema, model) -> None:
        model.subgraphs[0].operators[0].opcodeIndex = 9

    def tensor(_schema, model) -> None:
        model.subgraphs[0].operators[0].inputs = [0, 1_000_000, -1]

    def buffer(_schema, model) -> None:
        model.subgraphs[0].tensors[1].buffer = 77

    def length(_schema, model) -> None:
        model.subgraphs[0].tensors[1].shape = [8, 1 << 20]

    def size(_schema, model) -> None:
        model.subgraphs[0].tensors[0].shape = [1, 1 << 15, 1 << 15, 3]

    for change in (operator, tensor, buffer, length, size):
        graph = by_hand.tflite_graph(change=change)
        refused(by_hand.sealed({"a.tflite": graph}), "graph 'a.tflite' is refused")


def test_tflite_that_asks_for_external_data_is_refused(by_hand: SimpleNamespace) -> None:
    def behind(_schema, model) -> None:
        model.buffers[1].data = None
        model.buffers[1].offset, model.buffers[1].size = 1 << 40, 24_576

    def group(schema, model) -> None:
        made = schema.ExternalBufferGroupT()
        made.name = "weights.bin"
        model.externalBufferGroups = [made]

    for change in (behind, group):
        graph = by_hand.tflite_graph(change=change)
        refused(by_hand.sealed({"a.tflite": graph}), "external data")


def test_tflite_with_an_offset_outside_is_refused(by_hand: SimpleNamespace) -> None:
    graph = by_hand.tflite_graph()
    for content in (graph[:200], struct.pack("<I", 1 << 30) + graph[4:], b"\0" * 4 + b"TFL3" * 9):
        refused(by_hand.sealed({"a.tflite": content}), "is refused")


# The arrays.


def test_compressed_pickled_or_boastful_arrays_are_refused() -> None:
    squeezed, pickled, boastful = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez_compressed(squeezed, a=np.zeros(10_000_000, np.uint8))
    np.savez(pickled, a=np.array([{"a": 1}], object), allow_pickle=True)
    with zipfile.ZipFile(boastful, "w") as archive:
        entry = io.BytesIO()
        np.save(entry, np.zeros(8, np.float32))
        archive.writestr("a.npy", entry.getvalue().replace(b"(8,)", b"(8" + b"0" * 15 + b",)"))
    for attack in (squeezed, pickled, boastful):
        with pytest.raises(BundleError, match="cannot be read"):
            unpack_arrays(attack.getvalue(), "the cohort")


# All of it.


def test_no_attack_reaches_a_runtime(by_hand: SimpleNamespace, tmp_path: Path) -> None:
    """A graph is looked through before onnxruntime or LiteRT is even imported."""
    path = tmp_path / "attack.limen"
    path.write_bytes(by_hand.sealed({"a.onnx": by_hand.onnx_graph(node=by_hand.field(7, "evil"))}))
    code = (
        "import sys\nfrom limen.bundle import open_bundle\nfrom limen.errors import BundleError\n"
        f"try: open_bundle({str(path)!r})\nexcept BundleError: pass\nelse: sys.exit(3)\n"
        "sys.exit(any(m in sys.modules for m in ('onnxruntime', 'ai_edge_litert', 'onnx')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_attack_of_the_document_names_a_test_that_exists() -> None:
    folder = Path(__file__).parent
    tests = {
        name
        for path in folder.glob("test_bundle*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", DOCS.read_text("utf-8")))
    assert len(named) > 20
    assert named <= tests
    here = set(re.findall(r"^def (test_\w+_(?:is|are)_refused\w*)", Path(__file__).read_text()))
    assert here <= named
