"""A finder's recipe: everything that decides a run, except where the pictures are."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from limen.anchors import STRIDES_PX
from limen.errors import ConfigError
from limen.settings import explain_validation_error
from limen.train.finder.hard_cases import HardCases
from limen.train.finder.scenes import SceneSettings
from limen.train.recipe import read_recipe

NOTHING_HARD = HardCases()


class FinderRecipe(BaseModel):
    """TOML with `kind = "finder"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["finder"] = "finder"
    schema_version: Literal[1] = 1
    description: str = ""
    seed: int = Field(1, ge=0)
    channels: int = Field(64, ge=16, le=256, multiple_of=8)
    scenes_px: tuple[int, ...] = Field(
        (192, 192, 192, 256),
        min_length=1,
        description="sides of the square scenes, step after step in turn",
    )
    mosaic: float = Field(0.45, ge=0, le=1, description="probability of a scene of many pictures")
    background: float = Field(0.12, ge=0, le=1, description="probability of a scene without a face")
    turned: float = Field(0.08, ge=0, le=1, description="probability of a turn of up to 60°")
    near: float = Field(
        0.0, ge=0, le=1, description="probability that a lone picture's face is near and large"
    )
    covered: float = Field(
        0.0, ge=0, le=1, description="probability that a face is partly hidden: glasses, a mask …"
    )
    hard_faces: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that a lone picture is one that the first weights found hard",
    )
    hard_backgrounds: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that a scene without a face is one where they saw a face",
    )
    batch: int = Field(16, ge=1, le=1024)
    steps: int = Field(6000, ge=1, le=10_000_000)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    final_learning_rate: float = Field(1e-5, ge=0, le=1)
    warmup_steps: int = Field(200, ge=0)
    weight_decay: float = Field(0.02, ge=0, le=1)
    box_weight: float = Field(2.0, ge=0)
    landmark_weight: float = Field(20.0, ge=0)
    least_quality: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="the score that a cell of a face learns when its box is entirely wrong",
    )
    ema_decay: float = Field(0.998, ge=0, lt=1)
    validate_every_steps: int = Field(500, ge=1)
    checkpoint_every_steps: int = Field(250, ge=1)

    @field_validator("scenes_px")
    @classmethod
    def _of_whole_cells(cls, sides_px: tuple[int, ...]) -> tuple[int, ...]:
        for side_px in sides_px:
            if not 64 <= side_px <= 1024 or side_px % STRIDES_PX[-1]:
                raise ValueError(f"expected multiples of 32 from 64 to 1024, found {side_px}")
        return sides_px

    def scenes(
        self, height_px: int, width_px: int, hard: HardCases = NOTHING_HARD
    ) -> SceneSettings:
        """How scenes of a size are composed."""
        return SceneSettings(
            height_px,
            width_px,
            mosaic=self.mosaic,
            background=self.background,
            turned=self.turned,
            near=self.near,
            covered=self.covered,
            hard_faces=self.hard_faces,
            hard_backgrounds=self.hard_backgrounds,
            hard=hard,
        )

    @property
    def wants_hard_cases(self) -> bool:
        """Whether the run looks for what its first weights get wrong before it begins."""
        return self.hard_faces > 0 or self.hard_backgrounds > 0

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a half cosine down to the final rate."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        low = min(self.final_learning_rate, self.learning_rate)
        return low + (self.learning_rate - low) * (1 + math.cos(math.pi * done)) / 2


def load_finder_recipe(path: str | Path) -> FinderRecipe:
    """Read a finder's recipe from a file, or the shipped one by its name.

    ConfigError with the key that is wrong.
    """
    text, name = read_recipe(path)
    try:
        return FinderRecipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"{name}: {explain_validation_error(error, FinderRecipe)}") from error
