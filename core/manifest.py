"""What a bundle says about itself: typed, bounded, versioned.

Schema 2. A bundle of schema 1 is read as one of schema 2 that carries less
(`limen.manifest_history`); its model ids stay the same.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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


class Graph(Part):
    """A network for one runtime at one precision.

    `equivalents` are the digests of the graphs, this one included, whose embeddings the export
    proved to be the same; they share a model id. `batch` is the fixed number of crops of a call,
    or None for any; `io` the type of the graph's own input and output, where None is unknown.
    """

    role: Literal["embedder", "finder"] = "embedder"
    runtime: Runtime
    precision: Precision
    layout: Literal["NCHW", "NHWC"]
    batch: int | None = Field(None, ge=1, le=1024)
    io: Literal["float32", "int8"] = "float32"
    equivalents: tuple[Digest, ...] = Field(min_length=1, max_length=8)


class Cohort(Part):
    """Embeddings of people no door knows: the strangers of a calibration."""

    subjects: int = Field(ge=2)
    embeddings: int = Field(ge=2)
    precision: Precision


class GoldenExpectation(BaseModel):
    """What one graph must do with the golden inputs.

    Embeddings may differ from the stored ones by at most `max_distance` (Euclidean, of unit
    vectors); of all pairs of inputs, those that matched at `threshold` must match, and no other.
    `margin` is the distance of the nearest score from the threshold.
    """

    model_config = _STRICT

    path: PartName
    threshold: float = Field(ge=-1, le=1)
    margin: float = Field(ge=0, le=2)
    max_distance: float = Field(gt=0, le=2)


class Golden(Part):
    """Pictures of nobody with the embeddings and decisions that every board must give.

    The part holds the pictures and landmarks, which are aligned on the board, and the expected
    embeddings of each graph named in `expected` (`limen.golden`).
    """

    inputs: int = Field(ge=2, le=64)
    expected: tuple[GoldenExpectation, ...] = Field(min_length=1, max_length=32)


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


class Finder(BaseModel):
    """Which face finder the embedder was made for.

    `haar` is OpenCV's own cascades; `yunet` is the bundle's graph of role 'finder', run by OpenCV.
    """

    model_config = _STRICT

    kind: Literal["haar", "yunet"] = "haar"


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
    finder: Finder = Finder()
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

    @model_validator(mode="after")
    def _check_roles(self) -> Self:
        if not self.embedders:
            raise ValueError("no graph has the role 'embedder'")
        finders = [graph for graph in self.graphs if graph.role == "finder"]
        if (self.finder.kind == "yunet") != (len(finders) == 1) or len(finders) > 1:
            raise ValueError(
                "a finder of kind 'yunet' goes with one graph of role 'finder', and another with none"
            )
        return self

    @property
    def embedders(self) -> tuple[Graph, ...]:
        """The graphs that embed."""
        return tuple(graph for graph in self.graphs if graph.role == "embedder")

    def parts(self) -> tuple[Part, ...]:
        """Every file that the bundle must hold, and none beside, but for signatures."""
        others = (self.cohort, self.golden)
        return (*self.graphs, *(part for part in others if part is not None))

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
