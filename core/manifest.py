"""What a bundle says about itself: typed, bounded, versioned."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

_STRICT = ConfigDict(extra="forbid", frozen=True)

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PartName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
Precision = Literal["float32", "float16", "int8"]
Runtime = Literal["tflite", "onnx"]


class Part(BaseModel):
    """A file inside the bundle."""

    model_config = _STRICT

    path: PartName
    sha256: Digest
    bytes: int = Field(ge=1, le=256 * 2**20)


class RuntimeGraph(Part):
    """A network for one runtime at one precision.

    `equivalents` are the digests of the graphs, this one included, whose answers the export
    proved to be the same; they share a model id.
    """

    runtime: Runtime
    precision: Precision
    layout: Literal["NCHW", "NHWC"]
    equivalents: tuple[Digest, ...] = Field(min_length=1, max_length=8)


class Graph(RuntimeGraph):
    """An embedder's."""

    role: Literal["embedder"]


class FinderGraph(RuntimeGraph):
    """A face finder's."""

    role: Literal["finder"]


class Cohort(Part):
    """Embeddings of people no door knows: the strangers of a calibration."""

    subjects: int = Field(ge=2)
    embeddings: int = Field(ge=2)
    precision: Precision


class ScalingSpec(BaseModel):
    """value = (pixel - mean) / divisor."""

    model_config = _STRICT

    mean: float = Field(ge=0, le=255)
    divisor: float = Field(gt=0, le=255)


class InputSpec(BaseModel):
    """What an embedder's graph takes."""

    model_config = _STRICT

    px: int = Field(ge=16, le=1024)
    colour: Literal["RGB"] = "RGB"
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


Finder = Annotated[HaarFinder | GraphFinder, Field(discriminator="kind")]


class Licence(BaseModel):
    """The terms of the weights, apart from those of the code."""

    model_config = _STRICT

    weights: str = Field(min_length=1, max_length=200)
    terms: str = Field(min_length=1, max_length=4000)


class Parity(BaseModel):
    """How far a graph's embeddings are from the trained network's, on real crops."""

    model_config = _STRICT

    path: PartName
    crops: int = Field(ge=1)
    mean_cosine: float
    min_cosine: float
    fnmr_at_fmr_1e_3: float | None = None


class Manifest(BaseModel):
    """The first thing read of a bundle, and what all its parts are checked against."""

    model_config = _STRICT

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    created_at: str = Field(max_length=40)
    embedding_size: int = Field(ge=8, le=4096)
    input: InputSpec
    alignment: Alignment
    finder: Finder = HaarFinder()
    default_precision: Precision
    graphs: tuple[Graph, ...] = Field(min_length=1, max_length=32)
    cohort: Cohort | None = None
    threshold_floor: float | None = Field(
        None, ge=-1, le=1, description="no calibration goes below it unless told to"
    )
    licence: Licence
    card: str = Field("", max_length=100_000, description="the model card, Markdown")
    provenance: dict[str, Any] = Field(default_factory=dict)
    parity: tuple[Parity, ...] = ()

    def parts(self) -> tuple[Part, ...]:
        """Every file that the bundle must hold, and none beside."""
        finder = self.finder.graphs if isinstance(self.finder, GraphFinder) else ()
        return (*self.graphs, *finder, *((self.cohort,) if self.cohort else ()))

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
