"""What a TFLite graph may ask for, checked before a runtime sees it.

A bounded walk over the flatbuffer's tables that a runtime follows first: operator codes, buffers,
tensors, operators, inputs and outputs. Every offset is checked to lie inside the file and every
index to name something that exists. Field numbers: tflite/schema.fbs, version 3; layout:
flatbuffers.dev/internals. Refused are custom operators, control flow, data outside the
file, and tensors whose constant data is not as long as their shape says.
"""

from __future__ import annotations

import math
import struct

from limen.errors import BundleError

MAX_ITEMS = 50_000
MAX_ELEMENTS = 2**27
MAX_DIMENSIONS = 8
IDENTIFIER = b"TFL3"

# Numbers of `BuiltinOperator`. Left out is what can loop, call, keep state, or make a large tensor
# of a small one: CALL, CUSTOM, DELEGATE, IF, WHILE, TILE, FILL, RANGE, BROADCAST_TO, VAR_HANDLE,
# hash tables, recurrent networks, random numbers, and StableHLO.
OPERATORS = frozenset(
    [
        *(0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13, 14, 17, 18, 19, 20, 21, 22, 23, 25, 26, 28),
        *(34, 36, 37, 38, 39, 40, 41, 42, 43, 45, 47, 48, 49, 50, 53, 54, 55, 56, 57, 58, 59, 60),
        *(61, 62, 63, 64, 65, 67, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 82, 83, 86, 87, 88),
        *(89, 90, 92, 97, 98, 99, 100, 101, 102, 104, 106, 107, 108, 114, 116, 117, 120, 121, 123),
        *(126, 150, 152, 158),
    ]
)
CUSTOM, PLACEHOLDER = 32, 127

# Bytes of an element by `TensorType`; others (strings, resources, 4-bit) are not needed.
_ITEM_BYTES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1, 16: 2}
_U16, _I32, _U32, _U64 = (struct.Struct(f"<{code}") for code in "HiIQ")


class _Buffer:
    """A flatbuffer read with every access checked."""

    def __init__(self, content: memoryview, name: str) -> None:
        self.content = content
        self._name = name
        self._left = MAX_ITEMS

    def refuse(self, why: str) -> BundleError:
        return BundleError(f"graph '{self._name}' is refused: {why}")

    def _number(self, kind: struct.Struct, at: int) -> int:
        if not 0 <= at <= len(self.content) - kind.size:
            raise self.refuse("it is cut short or damaged: an offset leads outside it")
        return int(kind.unpack_from(self.content, at)[0])

    def follow(self, at: int) -> int:
        """The position that the offset at `at` leads to."""
        target = at + self._number(_U32, at)
        if target == at or target >= len(self.content):
            raise self.refuse("it is cut short or damaged: an offset leads outside it")
        return target

    def field(self, table: int, slot: int) -> int | None:
        """The position of a table's field, or None where it is left out."""
        vtable = table - self._number(_I32, table)
        size = self._number(_U16, vtable)
        if size < 4 or 4 + 2 * slot + 2 > size:
            return None
        offset = self._number(_U16, vtable + 4 + 2 * slot)
        return table + offset if offset else None

    def scalar(self, table: int, slot: int, kind: struct.Struct, default: int = 0) -> int:
        at = self.field(table, slot)
        return default if at is None else self._number(kind, at)

    def byte(self, table: int, slot: int) -> int:
        at = self.field(table, slot)
        if at is None:
            return 0
        if at >= len(self.content):
            raise self.refuse("it is cut short or damaged: an offset leads outside it")
        return self.content[at]

    def vector(self, table: int, slot: int, item_bytes: int) -> tuple[int, int]:
        """(position of the first item, number of items); no items where it is left out."""
        at = self.field(table, slot)
        if at is None:
            return 0, 0
        start = self.follow(at)
        count = self._number(_U32, start)
        if count * item_bytes > len(self.content) - start - 4:
            raise self.refuse("it is cut short or damaged: a vector is longer than the file")
        return start + 4, count

    def tables(self, table: int, slot: int) -> list[int]:
        start, count = self.vector(table, slot, 4)
        self._spend(count)
        return [self.follow(start + 4 * index) for index in range(count)]

    def integers(self, table: int, slot: int) -> list[int]:
        start, count = self.vector(table, slot, 4)
        self._spend(count)
        return [self._number(_I32, start + 4 * index) for index in range(count)]

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise self.refuse(f"it has more than {MAX_ITEMS:,} items")


def check_tflite(graph: bytes | memoryview, name: str) -> None:
    """Let a TFLite graph pass, or raise BundleError that says what it asks for."""
    buffer = _Buffer(memoryview(graph), name)
    if len(graph) < 16 or bytes(buffer.content[4:8]) != IDENTIFIER:
        raise buffer.refuse("it is no TFLite file of schema 3")
    model = buffer.follow(0)
    for slot in (8, 9):
        if buffer.field(model, slot) is not None:
            raise buffer.refuse("it asks for external data, outside the bundle")
    operators = [_operator(buffer, code) for code in buffer.tables(model, 1)]
    sizes = [_buffer_bytes(buffer, table) for table in buffer.tables(model, 4)]
    subgraphs = buffer.tables(model, 2)
    if len(subgraphs) != 1:
        raise buffer.refuse(f"expected one subgraph, found {len(subgraphs)} (control flow)")
    _check_subgraph(buffer, subgraphs[0], operators, sizes)


def _operator(buffer: _Buffer, code: int) -> int:
    """The builtin operator that a code stands for: the larger of its old and new number."""
    builtin = max(buffer.byte(code, 0), buffer.scalar(code, 3, _I32))
    if builtin == CUSTOM or buffer.field(code, 1) is not None:
        raise buffer.refuse("it asks for custom operators")
    if builtin not in OPERATORS:
        raise buffer.refuse(
            f"builtin operator {builtin} is not among those that a picture network needs"
        )
    return builtin


def _buffer_bytes(buffer: _Buffer, table: int) -> int:
    """Bytes of a buffer, which lies among the tables or, in newer files, behind them."""
    offset, size = buffer.scalar(table, 1, _U64), buffer.scalar(table, 2, _U64)
    if offset <= 1:
        return buffer.vector(table, 0, 1)[1]
    if offset + size > len(buffer.content):
        raise buffer.refuse("it asks for external data, outside the bundle")
    return size


def _check_subgraph(buffer: _Buffer, graph: int, operators: list[int], sizes: list[int]) -> None:
    tensors = buffer.tables(graph, 0)
    for tensor in tensors:
        _check_tensor(buffer, tensor, sizes)
    ends = [*buffer.integers(graph, 1), *buffer.integers(graph, 2)]
    nodes = buffer.tables(graph, 3)
    if not nodes:
        raise buffer.refuse("it has no operators")
    used = list(ends)
    for node in nodes:
        index = buffer.scalar(node, 0, _U32)
        if index >= len(operators):
            raise buffer.refuse("an operator has no code")
        for slot in (1, 2, 8):
            used += buffer.integers(node, slot)
        if buffer.field(node, 5) is not None or buffer.scalar(node, 9, _U64) > 1:
            raise buffer.refuse("it asks for custom operators")
    # -1 stands for an optional input that is left out.
    if any(not -1 <= index < len(tensors) for index in used) or -1 in ends:
        raise buffer.refuse("it names a tensor that is not there")


def _check_tensor(buffer: _Buffer, tensor: int, sizes: list[int]) -> None:
    shape = buffer.integers(tensor, 0)
    if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise buffer.refuse("a tensor has a shape that cannot be")
    elements = math.prod(shape)
    if elements > MAX_ELEMENTS:
        raise buffer.refuse(f"a tensor claims more than {MAX_ELEMENTS:,} elements")
    if buffer.field(tensor, 10) is not None:
        raise buffer.refuse("it asks for external data, outside the bundle")
    if buffer.field(tensor, 6) is not None:
        raise buffer.refuse("it has sparse tensors")
    kind = buffer.byte(tensor, 1)
    if kind not in _ITEM_BYTES:
        raise buffer.refuse(f"a tensor has type {kind}, which a picture network does not need")
    index = buffer.scalar(tensor, 2, _U32)
    if index >= max(1, len(sizes)):
        raise buffer.refuse("a tensor's data is not there")
    held = sizes[index] if sizes else 0
    if held and held != elements * _ITEM_BYTES[kind]:
        raise buffer.refuse("a tensor's data is not as long as its shape says")
    _check_quantisation(buffer, tensor, shape)


def _check_quantisation(buffer: _Buffer, tensor: int, shape: list[int]) -> None:
    """Scales and zero points: one for all, or one for each slice of an existing dimension."""
    at = buffer.field(tensor, 4)
    if at is None:
        return
    table = buffer.follow(at)
    scales, zeros = buffer.vector(table, 2, 4)[1], buffer.vector(table, 3, 8)[1]
    dimension = buffer.scalar(table, 6, _I32)
    if scales > 1 and (not 0 <= dimension < len(shape) or shape[dimension] != scales):
        raise buffer.refuse("a tensor's scales do not fit its shape")
    if zeros not in (0, 1, scales):
        raise buffer.refuse("a tensor's zero points do not fit its scales")
