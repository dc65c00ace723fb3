"""A recipe: everything that decides a training run, except where the pictures are.

TOML, typed and bounded; an unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from limen.errors import ConfigError
from limen.settings import explain_validation_error
from limen.train.augmentation.settings import Augmentation
from limen.train.objectives.settings import (
    DistillationObjective,
    Objective,
    TripletObjective,
)
from limen.train.quantisation.settings import Quantisation

__all__ = [
    "BatchShape",
    "DistillationObjective",
    "Model",
    "Objective",
    "Recipe",
    "Stage",
    "TripletObjective",
    "load_recipe",
    "parse_recipe",
    "shipped_recipes",
]

FINDER = "finder"  # the kind of recipe that limen.train.finder.recipe reads

_STRICT = ConfigDict(extra="forbid", frozen=True)


class Model(BaseModel):
    """The network that is trained."""

    model_config = _STRICT

    family: Literal["mobilenet", "mobilefacenet", "mobilenet-v2", "mobilenet-v3"] = "mobilenet"
    width: float = Field(0.5, ge=0.125, le=2.0, description="scales every layer's channels")
    embedding_size: int = Field(128, ge=8, le=1024)
    head_filters: int = Field(
        1, ge=1, le=16, description="depthwise filters per channel of the last feature map"
    )


class BatchShape(BaseModel):
    """P identities with K pictures each."""

    model_config = _STRICT

    identities: int = Field(24, ge=2, le=1024)
    per_identity: int = Field(4, ge=2, le=64)
    unlabelled: int = Field(
        0, ge=0, le=4096, description="more pictures a step, of nobody known, to distil from"
    )


class Stage(BaseModel):
    """A stretch of training under one objective and one cosine schedule."""

    model_config = _STRICT

    name: str = Field(min_length=1, max_length=40)
    steps: int = Field(ge=1, le=10_000_000)
    learning_rate: float = Field(1e-3, gt=0, le=1)
    final_learning_rate: float = Field(1e-5, ge=0, le=1)
    warmup_steps: int = Field(100, ge=0)
    fade_steps: int = Field(0, ge=0, description="a warm start's PReLU becomes ReLU over these")
    weight_decay: float = Field(0.05, ge=0, le=1)
    augmentation: Augmentation | None = Field(None, description="in place of the recipe's own")
    quantisation: Quantisation | None = Field(None, description="train with int8's rounding")
    objectives: tuple[Objective, ...] = Field(min_length=1)


class Recipe(BaseModel):
    """A whole run. `stages` follow each other; a checkpoint knows in which one it is."""

    model_config = _STRICT

    schema_version: Literal[1] = 1
    description: str = ""
    seed: int = Field(1, ge=0)
    input_px: int = Field(
        112, ge=28, le=224, multiple_of=4, description="the side of a picture; 112 for faces"
    )
    model: Model = Model()
    batch: BatchShape = BatchShape()
    augmentation: Augmentation = Augmentation()
    ema_decay: float = Field(0.998, ge=0, lt=1, description="of the averaged weights that ship")
    validate_every_steps: int = Field(400, ge=1)
    checkpoint_every_steps: int = Field(200, ge=1)
    early_stopping_patience: int | None = Field(
        None, ge=1, description="validations without a better one that end the last stage"
    )
    stages: tuple[Stage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _int8_comes_last(self) -> Recipe:
        kinds = [stage.quantisation is not None for stage in self.stages]
        if kinds != sorted(kinds):
            raise ValueError(
                "stages: a float stage follows one with quantisation, whose ranges would no longer "
                "fit: move the float stage before it"
            )
        if kinds[0] and self.stages[0].fade_steps:
            raise ValueError("stages: the first has quantisation, so fade_steps must be 0")
        return self

    @property
    def quantises(self) -> bool:
        """Whether a stage trains for int8."""
        return self.stages[-1].quantisation is not None

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """The stage of 0-based `step`, and the step's number within it."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise IndexError("the step lies behind the recipe's last stage")

    def stage_number(self, step: int) -> int:
        """Which of `stages`, from 0, 0-based `step` belongs to."""
        stage, _ = self.stage_at(step)
        return next(number for number, one in enumerate(self.stages) if one is stage)

    def augmentation_at(self, step: int) -> Augmentation:
        """What is done to a crop at 0-based `step`."""
        return self.stage_at(step)[0].augmentation or self.augmentation


def load_recipe(path: str | Path) -> Recipe:
    """Read an embedder's recipe from a file, or one of the shipped ones by its bare name ('door').

    ConfigError with the key that is wrong.
    """
    return parse_recipe(*read_recipe(path))


def read_recipe(path: str | Path) -> tuple[str, str]:
    """The TOML of a recipe of any kind, and what to call it. ConfigError where there is none."""
    file = Path(path)
    if not file.exists() and file.suffix == "" and file.name == str(path):
        shipped = resources.files("limen.train.recipes") / f"{path}.toml"
        if not shipped.is_file():
            raise ConfigError(
                f"no recipe '{path}': name a TOML file or one of {', '.join(shipped_recipes())}"
            )
        return shipped.read_text("utf-8"), str(path)
    try:
        return file.read_text("utf-8"), str(file)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: the recipe cannot be read ({error})") from error


def is_finder_recipe(path: str | Path) -> bool:
    """Whether a recipe is a face finder's (`kind = "finder"`), not an embedder's.

    ConfigError where it cannot be read or is not TOML.
    """
    text, name = read_recipe(path)
    try:
        return tomllib.loads(text).get("kind") == FINDER
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from error


def parse_recipe(text: str, name: str) -> Recipe:
    """Parse TOML. ConfigError with the line or key that is wrong."""
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"{name}: {explain_validation_error(error, Recipe)}") from error


def shipped_recipes() -> list[str]:
    """Names of the package's recipes for embedders; a finder's has another `kind`."""
    folder = resources.files("limen.train.recipes")
    return sorted(
        file.name[:-5]
        for file in folder.iterdir()
        if file.name.endswith(".toml") and "kind" not in tomllib.loads(file.read_text("utf-8"))
    )
