"""What an ONNX graph may ask for, checked before a runtime sees it, without the onnx package.

A walk over the protocol buffer's wire format: bounded in fields and depth, it copies nothing and
looks only at what can hurt. Field numbers: onnx/onnx.proto (ir_version 10); wire format:
protobuf.dev/programming-guides/encoding. Refused are data outside the file, operators of other
domains, functions of the graph's own, control flow, and tensors that claim more than they carry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from limen.errors import BundleError

MAX_FIELDS = 300_000
MAX_DIMENSIONS = 8
STANDARD_DOMAINS = frozenset({b"", b"ai.onnx"})

# What feed-forward picture networks are made of. Anything that can loop, branch, read a file, or
# make a large tensor of a small one (Expand, Tile, Range, ConstantOfShape, …) is left out.
OPERATORS = frozenset(
    b"""Abs Add AveragePool ArgMax ArgMin BatchNormalization Cast Ceil Clip Concat Constant Conv
    ConvInteger ConvTranspose DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Elu
    Equal Erf Exp Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
    GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity
    InstanceNormalization LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
    LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean Min Mish Mul Neg
    NonMaxSuppression Not PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear Reciprocal
    ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Relu Reshape Resize
    Round Selu Shape Sigmoid Sign Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze
    Sub Sum Tanh TopK Transpose Unsqueeze Upsample Where""".split()
)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1  # TensorProto.DataLocation
_Field = tuple[int, int, int | memoryview]


class _Walk:
    """Reads messages and counts their fields, so that no file keeps a board busy."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._left = MAX_FIELDS

    def refuse(self, why: str) -> BundleError:
        return BundleError(f"graph '{self._name}' is refused: {why}")

    def fields(self, message: int | memoryview) -> Iterator[_Field]:
        """(number, wire type, value) of each field: a number, or the bytes of what is inside."""
        if not isinstance(message, memoryview):
            raise self.refuse("it is no ONNX file, or a damaged one")
        at, end = 0, len(message)
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise self.refuse(f"it has more than {MAX_FIELDS:,} fields")
            key, at = self._varint(message, at)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, at = self._varint(message, at)
                yield number, kind, value
                continue
            if kind == _BYTES:
                size, at = self._varint(message, at)
            elif kind in (_FIXED32, _FIXED64):
                size = 4 if kind == _FIXED32 else 8
            else:
                raise self.refuse("it is no ONNX file, or a damaged one")
            if size > end - at:
                raise self.refuse("it is cut short")
            yield number, kind, message[at : at + size]
            at += size

    def packed_varints(self, value: memoryview) -> Iterator[int]:
        at = 0
        while at < len(value):
            self._left -= 1
            if self._left < 0:
                raise self.refuse(f"it has more than {MAX_FIELDS:,} fields")
            number, at = self._varint(value, at)
            yield number

    def _varint(self, message: memoryview, at: int) -> tuple[int, int]:
        value = shift = 0
        while at < len(message) and shift < 70:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise self.refuse("it is no ONNX file, or a damaged one")


def check_onnx(graph: bytes | memoryview, name: str) -> None:
    """Let an ONNX graph pass, or raise BundleError that says what it asks for."""
    walk = _Walk(name)
    graphs = 0
    for number, _, value in walk.fields(memoryview(graph)):
        if number == 7:
            graphs += 1
            _check_graph(walk, value)
        elif number == 20:
            raise walk.refuse("it carries a training graph")
        elif number == 25:
            raise walk.refuse("it defines operators of its own (model-local functions)")
    if graphs != 1:
        raise walk.refuse(f"expected an ONNX file with one graph, found {graphs}")


def _check_graph(walk: _Walk, message: int | memoryview) -> None:
    nodes = 0
    for number, _, value in walk.fields(message):
        if number == 1:
            nodes += 1
            _check_node(walk, value)
        elif number == 5:
            _check_tensor(walk, value)
        elif number == 15:
            raise walk.refuse("it has sparse tensors")
    if nodes == 0:
        raise walk.refuse("it has no operators")


def _check_domain(walk: _Walk, value: int | memoryview) -> None:
    domain = bytes(value)[:64] if isinstance(value, memoryview) else b"?"
    if domain not in STANDARD_DOMAINS:
        raise walk.refuse(
            f"it asks for custom operators of domain {_shown(domain)}; expected standard ONNX"
        )


def _check_node(walk: _Walk, message: int | memoryview) -> None:
    operator = b""
    for number, kind, value in walk.fields(message):
        if number == 4 and isinstance(value, memoryview):
            operator = bytes(value[:64])
        elif number == 7:
            _check_domain(walk, value)
        elif number == 5 and kind == _BYTES:
            _check_attribute(walk, value)
    if operator not in OPERATORS:
        raise walk.refuse(
            f"operator {_shown(operator)} is not among those that a picture network needs"
        )


def _check_attribute(walk: _Walk, message: int | memoryview) -> None:
    for number, _, value in walk.fields(message):
        if number in (6, 11):
            raise walk.refuse("it has graphs inside graphs (control flow)")
        if number in (22, 23):
            raise walk.refuse("it has sparse tensors")
        if number in (5, 10):
            _check_tensor(walk, value)


def _check_tensor(walk: _Walk, message: int | memoryview) -> None:
    dimensions: list[int] = []
    payload = 0
    for number, kind, value in walk.fields(message):
        if number == 1:
            sizes = [value] if isinstance(value, int) else walk.packed_varints(value)
            for size in sizes:
                dimensions.append(size)
                if len(dimensions) > MAX_DIMENSIONS:
                    raise walk.refuse(f"a tensor has more than {MAX_DIMENSIONS} dimensions")
        elif number == 13 or (number == 14 and value == _EXTERNAL):
            raise walk.refuse("it asks for external data, outside the bundle")
        elif number in (4, 5, 6, 7, 9, 10, 11):
            payload += len(value) if isinstance(value, memoryview) else 1
            if kind == _BYTES and number == 6:
                payload += 16  # a string may be empty and still be an element
    # A bit an element is the least that any type takes.
    if math.prod(dimensions) > 8 * payload and 0 not in dimensions:
        raise walk.refuse("a tensor claims more elements than it carries")


def _shown(raw: bytes) -> str:
    return ascii(raw.decode("utf-8", "replace"))
