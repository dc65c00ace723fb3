"""Anything may come in as a bundle, graph or array: it is read, or refused, and nothing else."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from limen.arrays import unpack_arrays
from limen.bundle import parse_bundle
from limen.errors import BundleError
from limen.onnx_check import check_onnx
from limen.signing import decode_signatures
from limen.tflite_check import check_tflite

# (where, what), where as a share of the length, so that a change lands in any file.
CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), max_size=6
)
FUZZ = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


def changed(content: bytes, changes: list[tuple[float, bytes]], cut: float = 1.0) -> bytes:
    damaged = bytearray(content)
    for where, what in changes:
        at = int(where * len(damaged))
        damaged[at : at + len(what)] = what
    return bytes(damaged[: int(cut * len(damaged))])


def only_refuses(call: object, *arguments: object) -> None:
    with contextlib.suppress(BundleError):
        call(*arguments)  # type: ignore[operator]


@FUZZ
@given(st.binary(max_size=4096))
@example(b"PK\x05\x06" + b"\0" * 18)
def test_any_bytes_are_no_bundle(content: bytes) -> None:
    with pytest.raises(BundleError):
        parse_bundle(content, "fuzz")


@FUZZ
@given(changes=CHANGES, cut=st.floats(0, 1))
def test_changed_bundle_is_read_or_refused(
    by_hand: SimpleNamespace, changes: list[tuple[float, bytes]], cut: float
) -> None:
    only_refuses(parse_bundle, changed(by_hand.sealed(), changes, cut), "fuzz")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


@FUZZ
@given(data=st.data())
def test_manifest_with_any_value_anywhere_is_read_or_refused(
    by_hand: SimpleNamespace, data: st.DataObject
) -> None:
    import json

    graphs = {"embedder.float32.onnx": by_hand.onnx_graph()}
    values = by_hand.manifest_of(graphs)
    target = data.draw(st.sampled_from([values, values["graphs"][0], values["input"]]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(_JSON)
    parts = [("manifest.json", json.dumps(values).encode()), *graphs.items()]
    only_refuses(parse_bundle, by_hand.archive(parts), "fuzz")


@FUZZ
@given(changes=CHANGES, cut=st.floats(0, 1))
def test_changed_onnx_graph_passes_or_is_refused(
    by_hand: SimpleNamespace, changes: list[tuple[float, bytes]], cut: float
) -> None:
    only_refuses(check_onnx, changed(by_hand.onnx_graph(), changes, cut), "fuzz")


@FUZZ
@given(changes=CHANGES, head=st.booleans())
def test_changed_tflite_graph_passes_or_is_refused(
    by_hand: SimpleNamespace, changes: list[tuple[float, bytes]], head: bool
) -> None:
    graph = by_hand.tflite_graph()
    # The tables are the file's first kilobyte or its last; the rest are weights.
    if head:
        damaged = changed(graph[:1024], changes) + graph[1024:]
    else:
        damaged = graph[:-1024] + changed(graph[-1024:], changes)
    only_refuses(check_tflite, damaged, "fuzz")


@FUZZ
@given(st.binary(max_size=600))
def test_any_bytes_are_no_graph_arrays_or_signatures_that_crash(content: bytes) -> None:
    only_refuses(check_onnx, content, "fuzz")
    only_refuses(check_tflite, b"\x1c\0\0\0TFL3" + content, "fuzz")
    only_refuses(unpack_arrays, content, "fuzz")
    only_refuses(decode_signatures, content, "fuzz")
