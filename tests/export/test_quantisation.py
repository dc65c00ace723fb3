"""Ranges by each method, layers kept in float, and where int8 loses what."""

# ruff: noqa: E402 - what follows the skips needs the packages

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

for _package in ("torch", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
    pytest.importorskip(_package)

import onnx

from limen.bundle import Bundle, open_bundle
from limen.export.errors import ExportError
from limen.export.gate import embed_with
from limen.export.graphs import BuiltGraph
from limen.export.layers import onnx_layers, tflite_layers, worst_layers
from limen.export.onnx_graphs import batch_of_1, float16_onnx, int8_onnx
from limen.export.ranges import histogram_ranges
from limen.export.recipe import Calibration, load_export_recipe, parse_export_recipe
from limen.export.tflite_graphs import int8_tflite, layer_names

METHODS = ("moving-average", "min-max", "percentile", "entropy")


@pytest.fixture(scope="module")
def floats(exported) -> dict[str, bytes]:
    bundle: Bundle = open_bundle(exported.path)
    return {r: bytes(bundle.part(f"embedder.float32.{r}")) for r in ("onnx", "tflite")}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_usable_onnx_graph(
    method: str, floats: dict[str, bytes], crops: NDArray[np.uint8]
) -> None:
    calibration = Calibration(onnx=method, percentile=99.9)
    graph = int8_onnx(floats["onnx"], crops, calibration)
    assert _cosine(floats, "onnx", graph, crops) > 0.8


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_usable_tflite_graph(
    method: str, floats: dict[str, bytes], crops: NDArray[np.uint8]
) -> None:
    calibration = Calibration(tflite=method, percentile=99.9)
    graph = int8_tflite(floats["tflite"], crops, calibration)
    assert _cosine(floats, "tflite", graph, crops) > 0.8


def test_percentile_leaves_out_what_min_max_takes_in(
    floats: dict[str, bytes], crops: NDArray[np.uint8]
) -> None:
    names = layer_names(floats["tflite"])
    narrow = histogram_ranges(floats["tflite"], names, crops, "percentile", 90.0)
    wide = histogram_ranges(floats["tflite"], names, crops, "percentile", 100.0)
    assert set(narrow) == set(wide) == set(names)
    assert all(wide[n][0] <= narrow[n][0] <= narrow[n][1] <= wide[n][1] for n in names)
    assert sum(narrow[n][1] < 0.9 * wide[n][1] for n in names) > len(names) / 2


def test_onnx_int8_has_a_scale_for_each_output_channel_in_qdq_form(
    floats: dict[str, bytes], crops: NDArray[np.uint8]
) -> None:
    model = onnx.load_model_from_string(int8_onnx(floats["onnx"], crops[:4]))
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    scales = [
        held[n.input[1]]
        for n in model.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in held and held[n.input[0]].ndim == 4
    ]
    assert len(scales) > 20
    assert all(scale.ndim == 1 and len(set(scale.tolist())) > 1 for scale in scales)


def test_layer_named_in_keep_float_stays_in_float(
    floats: dict[str, bytes], crops: NDArray[np.uint8]
) -> None:
    names = [n.name for n in onnx.load_model_from_string(floats["onnx"]).graph.node]
    kept = onnx.load_model_from_string(
        int8_onnx(floats["onnx"], crops[:4], keep_float=[f"^{names[0]}$"])
    )
    (first,) = [n for n in kept.graph.node if n.name == names[0]]
    assert first.input[0] == "crops"  # no quantisation before it
    whole = int8_tflite(floats["tflite"], crops[:4])
    partly = int8_tflite(floats["tflite"], crops[:4], keep_float=["ConvBlock_stem"])
    assert len(partly) > len(whole)
    assert _cosine(floats, "tflite", partly, crops) > _cosine(floats, "tflite", whole, crops) - 0.01
    for make, runtime in ((int8_onnx, "onnx"), (int8_tflite, "tflite")):
        with pytest.raises(ExportError, match="no layer's name holds 'nowhere'"):
            make(floats[runtime], crops[:4], keep_float=["nowhere"])
        with pytest.raises(ExportError, match="no regular expression"):
            make(floats[runtime], crops[:4], keep_float=["("])


@pytest.mark.parametrize(
    ("runtime", "make", "measure"),
    [("onnx", int8_onnx, onnx_layers), ("tflite", int8_tflite, tflite_layers)],
)
def test_layers_errors_say_where_int8_loses(
    runtime: str,
    make: Callable[..., bytes],
    measure: Callable[..., list],
    floats: dict[str, bytes],
    crops: NDArray[np.uint8],
) -> None:
    layers = measure(floats[runtime], make(floats[runtime], crops), crops[:4])
    assert len(layers) > 20
    assert all(0 < layer.sqnr_db < 60 for layer in layers)
    assert layers[0].sqnr_db > layers[-1].sqnr_db
    lost = [layer.lost_db for layer in worst_layers(layers)]
    assert lost == sorted((layer.lost_db for layer in layers), reverse=True)[:5]


def test_batch_of_one_and_float16_take_and_give_float32(floats: dict[str, bytes]) -> None:
    single = onnx.load_model_from_string(batch_of_1(floats["onnx"]))
    half = onnx.load_model_from_string(float16_onnx(floats["onnx"]))
    assert next(d.dim_value for d in single.graph.input[0].type.tensor_type.shape.dim) == 1
    assert half.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    kinds = {t.data_type for t in half.graph.initializer if len(t.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_recipes_are_typed_and_name_the_nearest_key() -> None:
    assert load_export_recipe("board").max_megabytes == 12
    assert len(load_export_recipe("full").graphs) == 8
    with pytest.raises(ValueError, match="did you mean 'calibration'"):
        parse_export_recipe('graphs = ["onnx-int8"]\n[calibraton]\ncrops = 3', "x")
    with pytest.raises(ValueError, match="one of board, full, light"):
        load_export_recipe("bord")


def _cosine(
    floats: dict[str, bytes], runtime: str, graph: bytes, crops: NDArray[np.uint8]
) -> float:
    before, after = (
        embed_with(BuiltGraph("g", runtime, "int8", content), crops)  # type: ignore[arg-type]
        for content in (floats[runtime], graph)
    )
    return float((before * after).sum(1).mean())
