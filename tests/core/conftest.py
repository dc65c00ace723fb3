"""Graphs and bundles of a few kilobytes, written by hand, so that each can lie in one place.

Nothing here needs the onnx package: a board's installation can run these tests.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

PX, SIZE = 16, 8
MANIFEST = "manifest.json"


def varint(value: int) -> bytes:
    """A number as a protocol buffer writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | str | int) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def onnx_tensor(
    name: str, shape: tuple[int, ...], raw: bytes, kind: int = 1, **more: bytes
) -> bytes:
    dims = b"".join(field(1, size) for size in shape)
    return dims + field(2, kind) + field(8, name) + field(9, raw) + b"".join(more.values())


def onnx_node(operator: str, inputs: list[str], output: str, extra: bytes = b"") -> bytes:
    names = b"".join(field(1, name) for name in inputs) + field(2, output)
    return names + field(4, operator) + extra


def onnx_end(name: str, shape: tuple[int | str, ...]) -> bytes:
    sizes = b"".join(
        field(1, field(2, size) if isinstance(size, str) else field(1, size)) for size in shape
    )
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, sizes)))


def onnx_graph(
    seed: int = 0,
    node: bytes = b"",
    tensor: bytes = b"",
    graph: bytes = b"",
    model: bytes = b"",
    batch: int | str = "n",
) -> bytes:
    """Flatten and one matrix: (batch, 3, 16, 16) -> (batch, 8). Each argument adds raw fields."""
    weights = np.random.default_rng(seed).normal(size=(3 * PX * PX, SIZE)).astype("<f4")
    content = (
        field(1, onnx_node("Flatten", ["crops"], "flat", node))
        + field(1, onnx_node("MatMul", ["flat", "weights"], "embeddings"))
        + field(2, "by-hand")
        + field(5, onnx_tensor("weights", weights.shape, weights.tobytes()) + tensor)
        + field(11, onnx_end("crops", (batch, 3, PX, PX)))
        + field(12, onnx_end("embeddings", (batch, SIZE)))
        + graph
    )
    return field(1, 8) + field(7, content) + field(8, field(2, 17)) + model


def tflite_graph(seed: int = 0, change: Callable[[Any, Any], None] | None = None) -> bytes:
    """One fully connected layer: (1, 16, 16, 3) -> (1, 8). `change` gets (schema, model)."""
    import flatbuffers

    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    weights = np.random.default_rng(seed).normal(size=(SIZE, PX * PX * 3)).astype("<f4")

    def tensor(name: str, shape: tuple[int, ...], buffer: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name, list(shape), buffer
        made.type = schema.TensorType.FLOAT32
        return made

    def buffer(content: bytes) -> Any:
        made = schema.BufferT()
        made.data = np.frombuffer(content, np.uint8) if content else None
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, -1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("crops", (1, PX, PX, 3), 0),
        tensor("weights", weights.shape, 1),
        tensor("embeddings", (1, SIZE), 0),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [buffer(b""), buffer(weights.tobytes())]
    if change is not None:
        change(schema, model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def manifest_of(graphs: Mapping[str, bytes], **changes: Any) -> dict[str, Any]:
    """A manifest's values for graphs by path; the suffix says the runtime."""
    from limen.alignment import TEMPLATE_XY

    entries = [
        {
            "path": path,
            "sha256": (sha := hashlib.sha256(content).hexdigest()),
            "bytes": len(content),
            "role": "embedder",
            "runtime": "onnx" if path.endswith(".onnx") else "tflite",
            "precision": "float32",
            "layout": "NCHW" if path.endswith(".onnx") else "NHWC",
            "equivalents": [sha],
        }
        for path, content in graphs.items()
    ]
    return {
        "schema_version": 2,
        "name": "by-hand",
        "created_at": "2026-01-02T03:04:05+00:00",
        "sequence": 100,
        "embedding_size": SIZE,
        "input": {"px": PX, "scaling": {"mean": 127.5, "divisor": 128.0}},
        "alignment": {"px": PX, "template_xy": TEMPLATE_XY.tolist()},
        "default_precision": "float32",
        "graphs": entries,
        "licence": {"weights": "CC0-1.0", "terms": "Random numbers; do as you like."},
        **changes,
    }


def archive(
    parts: list[tuple[str | bytes, bytes]],
    central: Mapping[str, Any] | None = None,
    local: Mapping[str, Any] | None = None,
    comment: bytes = b"",
    gap: bytes = b"",
    count: int | None = None,
) -> bytes:
    """A zip by hand. `central` and `local` replace fields of the first part's two descriptions."""
    body, directory = b"", b""
    for index, (name, content) in enumerate(parts):
        raw = name.encode() if isinstance(name, str) else name
        told: dict[str, Any] = {
            "flags": 0,
            "method": 0,
            "crc": zlib.crc32(content),
            "packed": len(content),
            "size": len(content),
            "attributes": 0o100644 << 16,
            "offset": len(body),
            "extra": b"",
            "comment": b"",
            "name": raw,
        }
        here = {**told, **(local or {})} if index == 0 else told
        there = {**told, **(central or {})} if index == 0 else told
        body += (
            struct.pack(
                "<IHHHHHIIIHH",
                *(0x04034B50, 20, here["flags"], here["method"], 0, 0x21, here["crc"]),
                *(here["packed"], here["size"], len(here["name"]), len(here["extra"])),
            )
            + here["name"]
            + here["extra"]
            + content
            + gap
        )
        directory += (
            struct.pack(
                "<IHHHHHHIIIHHHHHII",
                *(0x02014B50, 0x0314, 20, there["flags"], there["method"], 0, 0x21, there["crc"]),
                *(there["packed"], there["size"], len(there["name"]), len(there["extra"])),
                *(len(there["comment"]), 0, 0, there["attributes"], there["offset"]),
            )
            + there["name"]
            + there["extra"]
            + there["comment"]
        )
    total = len(parts) if count is None else count
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, total, total, len(directory), len(body), 0)
    return body + directory + end[:-2] + struct.pack("<H", len(comment)) + comment


def sealed(graphs: Mapping[str, bytes] | None = None, **changes: Any) -> bytes:
    """A whole bundle of graphs by hand, the ONNX one where none is named."""
    graphs = {"embedder.float32.onnx": onnx_graph()} if graphs is None else graphs
    manifest = json.dumps(manifest_of(graphs, **changes)).encode()
    return archive([(MANIFEST, manifest), *sorted(graphs.items())])


@pytest.fixture(scope="session")
def by_hand() -> SimpleNamespace:
    """The functions above."""
    return SimpleNamespace(
        field=field,
        onnx_tensor=onnx_tensor,
        onnx_node=onnx_node,
        onnx_graph=onnx_graph,
        tflite_graph=tflite_graph,
        manifest_of=manifest_of,
        archive=archive,
        sealed=sealed,
    )


@pytest.fixture
def small_bundle(tmp_path: Path) -> Path:
    """A whole, unsigned bundle in a file."""
    path = tmp_path / "small.limen"
    path.write_bytes(sealed())
    return path
