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


class Graph(Part):
    """A network for one runtime at one precision.

    `equivalents` are the digests of the graphs, this one included, whose embeddings the export
    proved to be the same; they share a model id.
    """

    role: Literal["embedder"]
    runtime: Runtime
    precision: Precision
    layout: Literal["NCHW", "NHWC"]
    equivalents: tuple[Digest, ...] = Field(min_length=1, max_length=8)


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


class Finder(BaseModel):
    """Which face finder the embedder was made for. `haar` is OpenCV's own cascades."""

    model_config = _STRICT

    kind: Literal["haar"] = "haar"


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
    finder: Finder = Finder()
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
        return (*self.graphs, *((self.cohort,) if self.cohort else ()))

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
