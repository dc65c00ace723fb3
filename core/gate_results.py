"""What an export's gate measured, as a manifest keeps it.

Every figure compares a graph with the network it was made from, on the same crops.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

Rate = Annotated[float, Field(ge=0, le=1)]


class FnmrChange(BaseModel):
    """FNMR at one FMR: the reference's, the graph's, and their difference with its interval.

    Each network has its own threshold, the lowest whose FMR is at most `fmr`. `change` is the
    graph's FNMR less the reference's; `low` and `high` bound it (bootstrap over subjects, the same
    resample for both). `reliable` is False where the crops are too few to carry the figure; it is
    then shown and gates nothing.
    """

    model_config = _STRICT

    fmr: float = Field(gt=0, lt=1)
    reference: Rate
    graph: Rate
    change: float = Field(ge=-1, le=1)
    low: float = Field(ge=-1, le=1)
    high: float = Field(ge=-1, le=1)
    reliable: bool


class ScoreDrift(BaseModel):
    """The graph's scores less the reference's, pair by pair: mean, deviation, largest size."""

    model_config = _STRICT

    mean: float
    spread: float = Field(ge=0)
    worst: float = Field(ge=0)


class Latency(BaseModel):
    """Median milliseconds of one embedding, with `threads` threads, on the exporting machine."""

    model_config = _STRICT

    threads: int = Field(ge=1, le=256)
    median_ms: float = Field(ge=0)


class GateGraph(BaseModel):
    """One graph against the reference.

    rank_1_changed: share of crops whose most similar other crop shows another person than with
    the reference; rank_1_lost: share where that was the right person and is no more. The drifts,
    ranks and rates are missing where the crops hold no pairs of both kinds.
    """

    model_config = _STRICT

    path: str = Field(max_length=100)
    mean_cosine: float
    min_cosine: float
    fnmr: tuple[FnmrChange, ...] = Field((), max_length=8)
    mated_drift: ScoreDrift | None = None
    non_mated_drift: ScoreDrift | None = None
    rank_1_changed: Rate | None = None
    rank_1_lost: Rate | None = None
    latency: tuple[Latency, ...] = Field((), max_length=8)
    breaches: tuple[str, ...] = Field((), max_length=16)


class Gate(BaseModel):
    """The evidence: what was compared with what, on which crops, and what was let through.

    reference: 'torch float32', or a graph's path where a foreign network was packed. `allowed`
    are the breaches that whoever exported named and accepted.
    """

    model_config = _STRICT

    reference: str = Field(max_length=100)
    part: str = Field(max_length=100)
    crops: int = Field(ge=1)
    subjects: int = Field(ge=0)
    mated_comparisons: int = Field(ge=0)
    non_mated_comparisons: int = Field(ge=0)
    confidence: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=0)
    machine: str = Field("", max_length=200)
    graphs: tuple[GateGraph, ...] = Field(min_length=1, max_length=32)
    allowed: tuple[str, ...] = Field((), max_length=64)
