"""An export recipe: which graphs, how their ranges are found, and what the gate lets through.

TOML, typed and bounded; an unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.errors import ConfigError
from limen.settings import explain_validation_error

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

GraphKind = Literal[
    "onnx-float32",
    "onnx-float32-batch1",
    "onnx-float16",
    "onnx-int8",
    "tflite-float32",
    "tflite-float16",
    "tflite-int8",
    "tflite-int8-io",
]
Method = Literal["moving-average", "min-max", "percentile", "entropy"]
Share = Annotated[float, Field(ge=0, le=1)]
DEFAULT_RECIPE = "board"


class Calibration(BaseModel):
    """Where the ranges of int8 activations come from.

    'moving-average' is over the extremes of groups of crops; 'min-max' the extremes of all;
    'percentile' leaves `percentile` of a tensor's values inside; 'entropy' loses the least
    information (Migacz, "8-bit inference with TensorRT", 2017). docs/bundle.md compares them.
    """

    model_config = _STRICT

    crops: int = Field(512, ge=1, le=100_000, description="drawn from the part 'fit'")
    onnx: Method = "percentile"
    tflite: Method = "percentile"
    percentile: float = Field(99.99, gt=50, le=100)


class KeepFloat(BaseModel):
    """Layers that int8 leaves in float: regular expressions that match a whole layer's name.

    The names are those that `limen export --layers` prints.
    """

    model_config = _STRICT

    onnx: tuple[str, ...] = ()
    tflite: tuple[str, ...] = ()


class Limits(BaseModel):
    """What a graph may lose against the trained network; a limit left out gates nothing.

    Rates of change are compared with the upper end of their interval: the graph must be shown to
    be no worse, not merely fail to be shown worse. Those whose figures are not reliable (too few
    subjects or pairs) gate nothing, and the table says so.
    """

    model_config = _STRICT

    min_cosine: float | None = Field(None, ge=-1, le=1, description="of the worst crop")
    mean_cosine: float | None = Field(None, ge=-1, le=1)
    fnmr_change_at_fmr_1e_2: Share | None = None
    fnmr_change_at_fmr_1e_3: Share | None = None
    rank_1_lost: Share | None = None
    worst_score_drift: float | None = Field(None, ge=0, le=2)
    latency_ratio: float | None = Field(
        None, gt=0, description="to the float graph of the same runtime, one thread"
    )


class PrecisionLimits(BaseModel):
    """Limits by precision."""

    model_config = _STRICT

    float32: Limits = Limits(min_cosine=0.9999)
    float16: Limits = Limits(min_cosine=0.999)
    int8: Limits = Limits(mean_cosine=0.9)


class FinderLimits(BaseModel):
    """What a finder's graph may lose against the trained finder, over the same faces."""

    model_config = _STRICT

    found: Share = Field(0.0, description="least share of the network's faces that it finds")
    landmark_error: float | None = Field(
        None, ge=0, description="most, on average, by the distance between the eyes"
    )


class FinderPrecisionLimits(BaseModel):
    """Limits by precision."""

    model_config = _STRICT

    float32: FinderLimits = FinderLimits(found=0.999, landmark_error=0.001)
    float16: FinderLimits = FinderLimits(found=0.995, landmark_error=0.005)
    int8: FinderLimits = FinderLimits(found=0.97, landmark_error=0.02)


class FinderExport(BaseModel):
    """A finder's graphs, where one is sealed in, and what its gate lets through."""

    model_config = _STRICT

    graphs: tuple[GraphKind, ...] = Field(
        ("onnx-float32", "onnx-int8", "tflite-float32", "tflite-float16", "tflite-int8"),
        min_length=1,
    )
    limits: FinderPrecisionLimits = FinderPrecisionLimits()


class ExportRecipe(BaseModel):
    """A whole export, except what is exported and on which pictures."""

    model_config = _STRICT

    schema_version: Literal[1] = 1
    description: str = ""
    seed: int = Field(0, ge=0)
    graphs: tuple[GraphKind, ...] = Field(min_length=1)
    calibration: Calibration = Calibration()
    keep_float: KeepFloat = KeepFloat()
    limits: PrecisionLimits = PrecisionLimits()
    finder: FinderExport = FinderExport()
    max_megabytes: float | None = Field(None, gt=0, description="of the whole bundle")
    resamples: int = Field(200, ge=20, le=10_000, description="of subjects, for intervals")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    latency_runs: int = Field(30, ge=1, le=10_000)
    threads: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field((1, 2, 4), max_length=8)


def load_export_recipe(path: str | Path = DEFAULT_RECIPE) -> ExportRecipe:
    """Read a recipe from a file, or one of the shipped ones by its bare name ('board', 'full').

    ConfigError with the key that is wrong.
    """
    file = Path(path)
    if not file.exists() and file.suffix == "" and file.name == str(path):
        shipped = resources.files("limen.export.recipes") / f"{path}.toml"
        if not shipped.is_file():
            raise ConfigError(
                f"no export recipe '{path}': name a TOML file or one of "
                f"{', '.join(shipped_export_recipes())}"
            )
        return parse_export_recipe(shipped.read_text("utf-8"), str(path))
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the export recipe cannot be read ({error})") from error
    return parse_export_recipe(text, str(file))


def parse_export_recipe(text: str, name: str) -> ExportRecipe:
    """Parse TOML. ConfigError with the line or key that is wrong."""
    try:
        return ExportRecipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"{name}: {explain_validation_error(error, ExportRecipe)}") from error


def shipped_export_recipes() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files("limen.export.recipes")
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".toml"))
