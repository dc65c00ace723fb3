"""What a bundle says about itself: typed, bounded, versioned.

Schema 2. A bundle of schema 1 is read as one of schema 2 that carries less
(`limen.manifest_history`); its model ids stay the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from limen.archive import PART_NAME
from limen.gate_results import Gate

SCHEMA_VERSION = 2

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PartName = Annotated[str, Field(pattern=PART_NAME)]
Precision = Literal["float32", "float16", "int8"]
Runtime = Literal["tflite", "onnx"]

LAST_SEQUENCE = 4_102_444_800  # the year 2100, in seconds since 1970


class Part(BaseModel):
    """A file inside the bundle."""

    model_config = _STRICT

    path: PartName
    sha256: Digest
    bytes: int = Field(ge=1, le=256 * 2**20)


class RuntimeGraph(Part):
    """A network for one runtime at one precision.

    `equivalents` are the digests of the graphs, this one included, whose answers the export
    proved to be the same; they share a model id. `batch` is the fixed number of pictures of a
    call, or None for any; `io` the type of the graph's own input and output.
    """

    role: Literal["embedder", "finder"]
    runtime: Runtime
    precision: Precision
    layout: Literal["NCHW", "NHWC"]
    batch: int | None = Field(None, ge=1, le=1024)
    io: Literal["float32", "int8"] = "float32"
    equivalents: tuple[Digest, ...] = Field(min_length=1, max_length=8)


class Graph(RuntimeGraph):
    """An embedder's."""

    role: Literal["embedder"]


class FinderGraph(RuntimeGraph):
    """A face finder's."""

    role: Literal["finder"]


class Cohort(Part):
    """Embeddings of people no door knows: the strangers of a calibration.

    precision, graph: what embedded them; graph is None where it was no graph of the bundle, as in
    those that were sealed before it was written down.
    """

    subjects: int = Field(ge=2)
    embeddings: int = Field(ge=2)
    precision: Precision
    graph: PartName | None = None

    def is_of(self, graph: Graph, graphs: Sequence[Graph]) -> bool:
        """Whether the strangers were embedded as `graph` embeds; graphs: all of the bundle's.

        Graphs that the export proved to be the same embed alike.
        """
        own = next((g for g in graphs if g.path == self.graph), None)
        if own is None:
            return graph.precision == self.precision
        return graph.precision == own.precision and graph.sha256 in own.equivalents


class GoldenExpectation(BaseModel):
    """What one graph must do with the golden inputs.

    Embeddings may differ from the stored ones by at most `max_distance` (Euclidean, of unit
    vectors). Of the pairs of inputs whose stored score is farther than `too_close` from
    `threshold`, those above it must match and those below must not, without exception; the others
    decide nothing, since two kernels of one runtime may round them to either side.
    """

    model_config = _STRICT

    path: PartName
    threshold: float = Field(ge=-1, le=1)
    too_close: float = Field(ge=0, le=2)
    max_distance: float = Field(gt=0, le=2)


class FinderExpectation(BaseModel):
    """What one graph of the finder must answer to the golden scene (`limen.golden_finder`).

    The kept numbers may differ by at most `max_difference` on average; cells whose stored logit is
    farther than `too_close` from the finder's least confidence must stay on their side of it.
    """

    model_config = _STRICT

    path: PartName
    max_difference: float = Field(gt=0, le=10)
    too_close: float = Field(ge=0, le=10)


class Golden(Part):
    """Pictures of nobody with the embeddings and decisions that every board must give.

    The part holds the pictures and landmarks, which are aligned on the board, and the expected
    embeddings of each graph named in `expected` (`limen.golden`).
    """

    inputs: int = Field(ge=2, le=64)
    expected: tuple[GoldenExpectation, ...] = Field(min_length=1, max_length=32)
    finder: tuple[FinderExpectation, ...] = Field((), max_length=32)


class ScalingSpec(BaseModel):
    """value = (pixel - mean) / divisor."""

    model_config = _STRICT

    mean: float = Field(ge=0, le=255)
    divisor: float = Field(gt=0, le=255)


class InputSpec(BaseModel):
    """What an embedder's graph takes: a square crop, its channels in the order of `colour`."""

    model_config = _STRICT

    px: int = Field(ge=16, le=1024)
    colour: Literal["RGB", "BGR"] = "RGB"
    scaling: ScalingSpec


class Alignment(BaseModel):
    """Where landmarks lie in a crop of `px`, (5, 2) px."""

    model_config = _STRICT

    px: int = Field(ge=16, le=1024)
    template_xy: tuple[tuple[float, float], ...] = Field(min_length=5, max_length=5)


class HaarFinder(BaseModel):
    """OpenCV's own cascades, the finder of bundles that carry none."""

    model_config = _STRICT

    kind: Literal["haar"] = "haar"


class FinderParity(BaseModel):
    """How far a finder's graph is from the trained network, on real pictures.

    Shares of the pictures' faces, boxes by intersection over union, landmarks by the distance
    between the eyes.
    """

    model_config = _STRICT

    path: PartName
    pictures: int = Field(ge=1)
    faces: int = Field(ge=1)
    found: float = Field(ge=0, le=1)
    mean_overlap: float = Field(ge=0, le=1)
    mean_landmark_error: float = Field(ge=0)


class GraphFinder(BaseModel):
    """A finder that the bundle carries, five landmarks and all (`limen.finder`).

    Answers as `limen.anchors` lists them, for inputs of `height_px` x `width_px`.
    """

    model_config = _STRICT

    kind: Literal["graph"] = "graph"
    height_px: int = Field(ge=64, le=2048, multiple_of=32)
    width_px: int = Field(ge=64, le=2048, multiple_of=32)
    scaling: ScalingSpec
    min_confidence: float = Field(gt=0, lt=1)
    default_precision: Precision
    graphs: tuple[FinderGraph, ...] = Field(min_length=1, max_length=16)
    parity: tuple[FinderParity, ...] = ()

    def detector_id(self, graph: FinderGraph, version: int) -> str:
        """Names what shapes the landmarks: graph, precision, input, and how answers become faces."""
        shaping = {
            "input": [self.height_px, self.width_px, self.scaling.mean, self.scaling.divisor],
            "min_confidence": self.min_confidence,
            "precision": graph.precision,
            "graphs": sorted(graph.equivalents),
        }
        text = json.dumps(shaping, sort_keys=True, separators=(",", ":"))
        return f"finder-{version}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class YuNetFinder(BaseModel):
    """A YuNet file that the bundle carries, run by OpenCV."""

    model_config = _STRICT

    kind: Literal["yunet"] = "yunet"
    graphs: tuple[FinderGraph, ...] = Field(min_length=1, max_length=1)


Finder = Annotated[HaarFinder | GraphFinder | YuNetFinder, Field(discriminator="kind")]


class Licence(BaseModel):
    """The terms of the weights, apart from those of the code."""

    model_config = _STRICT

    weights: str = Field(min_length=1, max_length=200)
    terms: str = Field(min_length=1, max_length=4000)


class Manifest(BaseModel):
    """The first thing read of a bundle, and what all its parts are checked against."""

    model_config = _STRICT

    schema_version: Literal[2] = 2
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    created_at: str = Field(max_length=40)
    sequence: int = Field(
        0,
        ge=0,
        le=LAST_SEQUENCE,
        description="rises with every sealing under a name: a board refuses to go back",
    )
    embedding_size: int = Field(ge=8, le=4096)
    input: InputSpec
    alignment: Alignment
    finder: Finder = HaarFinder()
    default_precision: Precision
    graphs: tuple[Graph, ...] = Field(min_length=1, max_length=32)
    cohort: Cohort | None = None
    golden: Golden | None = None
    threshold_floor: float | None = Field(
        None, ge=-1, le=1, description="no calibration goes below it unless told to"
    )
    licence: Licence
    card: str = Field("", max_length=100_000, description="the model card, Markdown")
    provenance: dict[str, Any] = Field(default_factory=dict)
    gate: Gate | None = None

    @property
    def finder_graphs(self) -> tuple[FinderGraph, ...]:
        """The graphs of the finder, none for OpenCV's cascades."""
        return () if isinstance(self.finder, HaarFinder) else self.finder.graphs

    def parts(self) -> tuple[Part, ...]:
        """Every file that the bundle must hold, and none beside, but for signatures."""
        others = (self.cohort, self.golden)
        return (*self.graphs, *self.finder_graphs, *(p for p in others if p is not None))

    def model_id(self, graph: Graph, detector_id: str) -> str:
        """A hash over what shapes an embedding: finder, alignment, scaling, graph and precision."""
        shaping = {
            "detector": detector_id,
            "alignment": self.alignment.model_dump(mode="json"),
            "input": self.input.model_dump(mode="json"),
            "precision": graph.precision,
            "graphs": sorted(graph.equivalents),
        }
        text = json.dumps(shaping, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]
