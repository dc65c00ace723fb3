"""The gate: does each graph, on the runtime that will run it, do what the trained network does?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.rates import fnmr_at_fmr
from limen.calibration.scores import mated_and_non_mated
from limen.embedder import RuntimeEmbedder
from limen.errors import PictureError
from limen.export.errors import ExportError
from limen.manifest import Parity, Precision, Runtime
from limen.runtimes import ONNX, open_session
from limen.scaling import SCALING

EMBED_BATCH = 32


@dataclass(frozen=True, slots=True)
class ParityLimits:
    """How far a graph's embeddings may be from the network's, as cosines.

    Float graphs answer for their worst crop. An int8 graph answers for the mean: it is another
    measuring instrument, with a model id and a threshold of its own.
    """

    float32_min_cosine: float = 0.9999
    float16_min_cosine: float = 0.999
    int8_mean_cosine: float = 0.9


DEFAULT_LIMITS = ParityLimits()


@dataclass(frozen=True, slots=True)
class BuiltGraph:
    """A converted graph, not yet in a bundle. `content` is what a runtime loads."""

    path: str
    runtime: Runtime
    precision: Precision
    content: bytes

    @property
    def layout(self) -> str:
        """'NCHW' for ONNX, 'NHWC' for TFLite."""
        return "NCHW" if self.runtime == ONNX else "NHWC"


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """FNMR at two FMRs over all pairs of the crops, with the counts behind them."""

    fnmr_at_fmr_1e_2: float
    fnmr_at_fmr_1e_3: float
    mated_comparisons: int
    non_mated_comparisons: int
    identities: int


@dataclass(frozen=True, slots=True)
class GraphParity:
    """One graph against the network. `rates` is None where the crops have no mated pairs."""

    graph: BuiltGraph
    crops: int
    mean_cosine: float
    min_cosine: float
    rates: ErrorRates | None


@dataclass(frozen=True, slots=True)
class ParityReport:
    """All graphs against the network. `part` names the pictures; `trained` are torch's rates."""

    part: str
    trained: ErrorRates | None
    graphs: tuple[GraphParity, ...]

    def entries(self) -> tuple[Parity, ...]:
        """As a manifest keeps them."""
        return tuple(
            Parity(
                path=row.graph.path,
                crops=row.crops,
                mean_cosine=round(row.mean_cosine, 6),
                min_cosine=round(row.min_cosine, 6),
                fnmr_at_fmr_1e_3=None if row.rates is None else row.rates.fnmr_at_fmr_1e_3,
            )
            for row in self.graphs
        )


def measure_parity(
    graphs: Sequence[BuiltGraph],
    crops: NDArray[np.uint8],
    trained: NDArray[np.float32],
    identity: NDArray[np.int64] | None,
    part: str,
) -> ParityReport:
    """Run every graph on its runtime and compare with `trained`.

    crops: (n, px, px, 3) uint8 RGB; trained: (n, D), the network's embeddings of them, unit norm;
    identity: (n,), whose face each is, or None for no error rates. RuntimeUnavailableError where
    a graph's runtime is not installed; ExportError where a graph gives no usable embeddings.
    """
    rows = []
    for graph in graphs:
        embeddings = embed_with(graph, crops)
        if embeddings.shape != trained.shape:
            raise ExportError(
                f"graph '{graph.path}' gives embeddings {embeddings.shape}, the network "
                f"{trained.shape}: export the checkpoint again"
            )
        cosine = np.einsum("nd,nd->n", embeddings, trained, dtype=np.float64)
        rates = error_rates(embeddings, identity)
        rows.append(
            GraphParity(graph, len(crops), float(cosine.mean()), float(cosine.min()), rates)
        )
    return ParityReport(part, error_rates(trained, identity), tuple(rows))


def embed_with(graph: BuiltGraph, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embeddings of (n, px, px, 3) uint8 crops through the very code that a door runs."""
    embedder = RuntimeEmbedder(
        session=open_session(graph.runtime, graph.content),
        model_id=graph.path,
        input_px=crops.shape[1],
        layout=graph.layout,
        scaling=SCALING,
    )
    starts = range(0, len(crops), EMBED_BATCH)
    try:
        return np.concatenate([embedder.embed(crops[s : s + EMBED_BATCH]) for s in starts])
    except PictureError as error:
        raise ExportError(f"graph '{graph.path}' gives unusable embeddings: {error}") from error


def error_rates(
    embeddings: NDArray[np.float32], identity: NDArray[np.int64] | None
) -> ErrorRates | None:
    """FNMR over all pairs of (n, D) unit-norm embeddings; None without both kinds of pair."""
    if identity is None:
        return None
    mated, non_mated = mated_and_non_mated(embeddings, identity)
    if len(mated) == 0 or len(non_mated) == 0:
        return None
    return ErrorRates(
        fnmr_at_fmr_1e_2=fnmr_at_fmr(mated, non_mated, 1e-2),
        fnmr_at_fmr_1e_3=fnmr_at_fmr(mated, non_mated, 1e-3),
        mated_comparisons=len(mated),
        non_mated_comparisons=len(non_mated),
        identities=len(np.unique(identity)),
    )


def check_parity(report: ParityReport, limits: ParityLimits = DEFAULT_LIMITS) -> None:
    """Let the graphs pass, or raise ExportError with every graph that is too far off."""
    breaches = [sentence for row in report.graphs if (sentence := _breach(row, limits))]
    if breaches:
        raise ExportError(
            "; ".join(breaches) + ": nothing was sealed. A float graph that differs was converted "
            "wrongly: check the packages' versions; for int8, give more calibration crops, or "
            "train on with the quantiser in view"
        )


def _breach(row: GraphParity, limits: ParityLimits) -> str | None:
    which, found, least = {
        "float32": ("lowest", row.min_cosine, limits.float32_min_cosine),
        "float16": ("lowest", row.min_cosine, limits.float16_min_cosine),
        "int8": ("mean", row.mean_cosine, limits.int8_mean_cosine),
    }[row.graph.precision]
    if found >= least:
        return None
    return (
        f"graph '{row.graph.path}' is not the trained network: its {which} cosine over "
        f"{row.crops} crops is {found:.5f}, expected {least} or more"
    )
