"""The best of this board: finder and embedder chosen by what they take here.

A precision is another measuring instrument: it changes scores, so it changes the model id, and a
threshold found with one holds for no other. Beside a gallery, therefore, only what keeps the
gallery's model id is chosen; before anybody is enrolled, everything that the bundle's own evidence
allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from limen.bundle import Bundle
from limen.device.candidates import Timed, time_embedders, time_finders
from limen.device.tuned import Pick, Tuning, tuning_key
from limen.errors import ModelMismatchError
from limen.finder import FINDER_VERSION
from limen.manifest import GraphFinder

# Fewer threads, then the bundle's own graph, are preferred to what is faster by less than this.
WORTH_IT = 0.10


@dataclass(frozen=True, slots=True)
class _Pair:
    """A finder and an embedder, and what they would be together."""

    finder: Timed | None
    embedder: Timed
    model_id: str
    is_default: bool

    @property
    def cost_ms(self) -> float:
        found_ms = self.finder.median_ms or 0.0 if self.finder is not None else 0.0
        return found_ms + (self.embedder.median_ms or 0.0)

    @property
    def threads(self) -> int:
        return self.embedder.threads + (self.finder.threads if self.finder is not None else 0)


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was measured, and the choice; faster: the fastest in all, where it is another model."""

    timed: tuple[Timed, ...]
    tuning: Tuning
    faster: tuple[Timed, ...]


def tune(
    bundle: Bundle,
    *,
    model_id: str | None,
    measured_at: str,
    yunet: Path | None = None,
    seconds: float = 20.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Tuned:
    """Time what agrees, for about `seconds` in all, and choose.

    model_id: the gallery's, which the choice must keep; None where nobody is enrolled yet.
    BundleError where the bundle carries no golden inputs to check agreement with;
    ModelMismatchError where nothing that agrees on this board keeps the gallery's model id.
    """
    embedders = time_embedders(bundle, seconds / 2, clock)
    finders = time_finders(bundle, seconds / 2, clock) if yunet is None else []
    pairs = _pairs(bundle, embedders, finders, yunet)
    allowed = [pair for pair in pairs if model_id is None or pair.model_id == model_id]
    if not allowed:
        raise ModelMismatchError(
            f"gallery holds templates of model {(model_id or 'none')[:8]}…, and nothing in this "
            "bundle that agrees on this board makes such: 'limen bundle conform' says what differs"
        )
    best, fastest = _thrifty(allowed), _thrifty(pairs)
    tuning = Tuning(
        key=tuning_key(bundle),
        model_id=best.model_id,
        finder=_pick(best.finder) if best.finder is not None else None,
        embedder=_pick(best.embedder),
        measured_at=measured_at,
    )
    faster = [fastest.finder, fastest.embedder] if fastest.model_id != best.model_id else []
    return Tuned((*finders, *embedders), tuning, tuple(t for t in faster if t is not None))


def _pairs(
    bundle: Bundle, embedders: Sequence[Timed], finders: Sequence[Timed], yunet: Path | None
) -> list[_Pair]:
    manifest = bundle.manifest
    graphs = {graph.path: graph for graph in manifest.graphs}
    default_id = bundle.detector(yunet).detector_id
    found: list[tuple[Timed | None, str]] = [(None, default_id)]
    if isinstance(manifest.finder, GraphFinder):
        by_path = {graph.path: graph for graph in manifest.finder.graphs}
        timed = [
            (each, manifest.finder.detector_id(by_path[each.path], FINDER_VERSION))
            for each in finders
            if each.median_ms is not None
        ]
        found = [*timed] or found
    return [
        _Pair(
            finder,
            embedder,
            manifest.model_id(graphs[embedder.path], detector_id),
            embedder.precision == manifest.default_precision and detector_id == default_id,
        )
        for finder, detector_id in found
        for embedder in embedders
        if embedder.median_ms is not None
    ]


def _thrifty(pairs: Sequence[_Pair]) -> _Pair:
    fastest_ms = min(pair.cost_ms for pair in pairs)
    near = [pair for pair in pairs if pair.cost_ms <= (1 + WORTH_IT) * fastest_ms]
    return min(near, key=lambda pair: (pair.threads, not pair.is_default, pair.cost_ms))


def _pick(timed: Timed) -> Pick:
    return Pick(path=timed.path, threads=timed.threads, median_ms=round(timed.median_ms or 0, 3))
