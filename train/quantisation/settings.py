"""What a recipe says about training for int8."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Quantisation(BaseModel):
    """A stage in which the network computes as its int8 graphs will."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learn_ranges: bool = Field(
        True, description="by gradient; otherwise they stay as observed before the first step"
    )
    observed_crops: int = Field(
        512, ge=1, le=100_000, description="pictures of 'fit' from which ranges start"
    )
