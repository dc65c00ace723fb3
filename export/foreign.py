"""Files of somebody else's: read, bounded, looked through, and tried once before they are sealed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.embedder import RuntimeEmbedder
from limen.errors import BundleError, PictureError
from limen.export.errors import ExportError
from limen.export.graphs import BuiltGraph
from limen.golden import draw_golden_inputs
from limen.manifest import FinderGraph, Precision
from limen.onnx_check import check_onnx
from limen.runtimes import RUNTIMES, graph_input
from limen.sealing import digest
from limen.tflite_check import check_tflite
from limen.yunet import YuNetDetector

MAX_GRAPH_BYTES = 200 * 2**20
FINDER_FILE = "finder.onnx"


def _read(path: Path, what: str) -> bytes:
    try:
        if path.stat().st_size > MAX_GRAPH_BYTES:
            raise ExportError(f"{path}: larger than {MAX_GRAPH_BYTES // 2**20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path}: {what} cannot be read ({error.strerror})") from error


def foreign_graph(path: Path, precision: Precision) -> tuple[BuiltGraph, int]:
    """The graph as it is, and the side of the crop that it takes."""
    content = _read(path, "the embedder")
    runtime = path.suffix.removeprefix(".")
    if runtime not in RUNTIMES:
        raise ExportError(f"{path}: expected an .onnx or .tflite file")
    (check_onnx if runtime == "onnx" else check_tflite)(content, path.name)
    shape = graph_input(runtime, content)
    if len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]:
        ordered, px = "NCHW", shape[2]
    elif len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2]:
        ordered, px = "NHWC", shape[1]
    else:
        ordered, px = "", None
    if px is None:
        raise ExportError(
            f"{path}: takes {shape}, expected square crops of three channels, of a fixed size"
        )
    graph = BuiltGraph(
        path=f"embedder.{precision}.{runtime}",
        runtime="onnx" if runtime == "onnx" else "tflite",
        precision=precision,
        content=content,
        batch=shape[0],
        ordered="NCHW" if ordered == "NCHW" else "NHWC",
    )
    return graph, px


def golden_crops(px: int) -> NDArray[np.uint8]:
    """Crops of nobody, (n, px, px, 3) uint8, to try a network on."""
    return draw_golden_inputs().crops(px)


def embedding_size(run: RuntimeEmbedder, px: int, path: str) -> int:
    """How many numbers it gives a crop. ExportError where it gives no embeddings."""
    try:
        return int(run.embed(golden_crops(px)[:2]).shape[1])
    except (PictureError, BundleError) as error:
        raise ExportError(f"graph '{path}' gives no embeddings: {error}") from error


def foreign_finder(path: Path) -> bytes:
    """A YuNet file that works: it is run once before it is sealed."""
    content = _read(path, "the detector")
    YuNetDetector(memoryview(content)).detect(np.zeros((160, 160, 3), np.uint8))
    return content


def finder_entry(content: bytes) -> FinderGraph:
    """The manifest's entry of a YuNet file."""
    sha256 = digest(content)
    return FinderGraph(
        path=FINDER_FILE,
        sha256=sha256,
        bytes=len(content),
        role="finder",
        runtime="onnx",
        precision="float32",
        layout="NCHW",
        equivalents=(sha256,),
    )
