"""Search: the subjects most like a probe, exactly, by one matrix product.

The product is in float32; whoever could be among the best within its rounding error is compared
again in float64, so the answer is that of a float64 search over everybody.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Unit roundoff of float32.
_ROUNDOFF = 2.0**-24


class Search(Protocol):
    """What finds the rows most like a probe: `ExactSearch`, or an index that is measured against it."""

    def best(
        self, probe: NDArray[np.float32], count: int, among: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows (k,) and cosine scores (k,) of the `count` best, best first, ties by row."""
        ...

    def score(self, probe: NDArray[np.float32], row: int) -> float:
        """The score of one row, as `best` gives it."""
        ...


class ExactSearch:
    """One product over a matrix of templates, (n, D) float32, unit norm."""

    def __init__(self, templates: NDArray[np.float32]) -> None:
        self._templates = np.ascontiguousarray(templates)
        # |computed - true| of a dot product of unit vectors in float32, summed in any order
        # (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).
        self._error = 2 * templates.shape[1] * _ROUNDOFF if templates.ndim == 2 else 0.0
        self._among: NDArray[np.bool_] | None = None
        self._rows = np.arange(len(templates))
        self._chosen = self._templates

    def best(
        self, probe: NDArray[np.float32], count: int, among: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows (k,) and cosine scores (k,) of the `count` best, best first, ties by row.

        probe: (D,), unit norm; among: (n,) the rows that count, None for all. k is the smaller of
        `count` and the number of rows that count.
        """
        self._choose(among)
        if not len(self._rows) or count < 1:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        rough = self._chosen @ probe
        if count < len(rough):
            last = np.partition(rough, len(rough) - count)[len(rough) - count]
            near = np.flatnonzero(rough >= last - 2 * self._error)
        else:
            near = np.arange(len(rough))
        scores = self._chosen[near].astype(np.float64) @ probe.astype(np.float64)
        order = np.argsort(-scores, kind="stable")[:count]
        return self._rows[near[order]], scores[order].astype(np.float32)

    def score(self, probe: NDArray[np.float32], row: int) -> float:
        """The score of one row, as `best` gives it."""
        return float(np.float32(self._templates[row].astype(np.float64) @ probe.astype(np.float64)))

    def _choose(self, among: NDArray[np.bool_] | None) -> None:
        """Copy out the rows that count, where they are not the ones of the last probe.

        Who may enter changes with the hour, not with the frame, so this is rare; and whoever may
        not enter is never compared, which keeps the FPIR down.
        """
        if among is None and self._among is None:
            return
        if among is not None and self._among is not None and np.array_equal(among, self._among):
            return
        self._among = None if among is None else among.copy()
        self._rows = np.arange(len(self._templates)) if among is None else np.flatnonzero(among)
        self._chosen = self._templates if among is None else self._templates[self._rows]
