"""Search beyond what one matrix product does in time: a scan of short codes, then exact scores.

faiss keeps half a byte for each two values of a template (a product quantiser: Jégou, Douze and
Schmid, Product Quantization for Nearest Neighbor Search, 2011) and scans all codes with the
processor's table look-ups (IndexPQFastScan). Nobody is left out by a graph or a cell: the two thousand
whose codes are most like the probe are compared exactly, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limen.device.matching import ExactSearch
from limen.errors import RuntimeUnavailableError

if TYPE_CHECKING:
    from types import ModuleType

# Up to here the exact product is quick enough (benchmarks/gallery_matching.py).
EXACT_UP_TO = 100_000
# How many are compared exactly. Chosen by recall on a million synthetic templates as hard as the
# shipped bundle's cohort (benchmarks/gallery_index.py); it does not depend on who is enrolled.
SHORTLIST = 2_000
VALUES_A_CODE = 2
_BITS = 4
_TRAIN_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Codes:
    """Templates in short.

    codebook: (D / 2, 16, 2) float32, what each code stands for; codes: (n, D / 4) uint8.
    """

    codebook: NDArray[np.float32]
    codes: NDArray[np.uint8]


class IndexedSearch:
    """A scan over codes, then exact scores. The same answers as `ExactSearch`, but for rare misses.

    templates: (n, D) float32, unit norm, D a multiple of 4; codes: of the same n.
    RuntimeUnavailableError where faiss is not installed.
    """

    def __init__(self, templates: NDArray[np.float32], codes: Codes) -> None:
        self._faiss = _faiss()
        self._exact = ExactSearch(templates)
        self._templates = templates
        self._codes = codes
        self._among: NDArray[np.bool_] | None = None
        self._rows = np.arange(len(templates))
        self._packed: Any = self._pack(codes.codes)

    def best(
        self, probe: NDArray[np.float32], count: int, among: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `ExactSearch.best`. Whoever does not count is taken out of the codes before the scan.

        So few that the product is quick, or so many wanted that a shortlist would not hold them:
        then the search is exact.
        """
        self._choose(among)
        if len(self._rows) <= EXACT_UP_TO or 4 * count > SHORTLIST:
            return self._exact.best(probe, count, among)
        _, found = self._packed.search(np.ascontiguousarray(probe[None]), SHORTLIST)
        near = np.sort(self._rows[found[0][found[0] >= 0]])
        scores = self._templates[near].astype(np.float64) @ probe.astype(np.float64)
        order = np.argsort(-scores, kind="stable")[:count]
        return near[order], scores[order].astype(np.float32)

    def score(self, probe: NDArray[np.float32], row: int) -> float:
        """The score of one row, as `best` gives it."""
        return self._exact.score(probe, row)

    def _choose(self, among: NDArray[np.bool_] | None) -> None:
        if among is None and self._among is None:
            return
        if among is not None and self._among is not None and np.array_equal(among, self._among):
            return
        self._among = None if among is None else among.copy()
        self._rows = np.arange(len(self._templates)) if among is None else np.flatnonzero(among)
        if len(self._rows) > EXACT_UP_TO:
            self._packed = self._pack(self._codes.codes[self._rows])

    def _pack(self, codes: NDArray[np.uint8]) -> Any:
        plain = _quantiser(self._faiss, self._codes.codebook)
        self._faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), plain.codes)
        plain.ntotal = len(codes)
        return self._faiss.IndexPQFastScan(plain)


def can_be_indexed(values: int) -> bool:
    """Whether faiss is installed, and templates of so many values can be coded."""
    if values == 0 or values % (2 * VALUES_A_CODE):
        return False
    try:
        _faiss()
    except RuntimeUnavailableError:
        return False
    return True


def quantised(templates: NDArray[np.float32]) -> Codes:
    """Learn a codebook from up to 16,384 templates, evenly taken, and code all of them.

    templates: (n, D) float32, n >= 16. The same templates give the same codes.
    """
    faiss = _faiss()
    values = templates.shape[1]
    index = faiss.IndexPQ(values, values // VALUES_A_CODE, _BITS, faiss.METRIC_INNER_PRODUCT)
    step = max(1, len(templates) // _TRAIN_ROWS)
    index.train(np.ascontiguousarray(templates[::step][:_TRAIN_ROWS]))
    centroids = faiss.vector_to_array(index.pq.centroids)
    codebook = centroids.reshape(values // VALUES_A_CODE, 2**_BITS, VALUES_A_CODE)
    return Codes(codebook, coded(codebook, templates))


def coded(codebook: NDArray[np.float32], templates: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The codes (n, D / 4) of templates (n, D) in a codebook that was learnt from others."""
    if not len(templates):
        return np.zeros((0, codebook.shape[0] * _BITS // 8), np.uint8)
    index = _quantiser(_faiss(), codebook)
    found: NDArray[np.uint8] = index.sa_encode(np.ascontiguousarray(templates))
    return found


def _quantiser(faiss: ModuleType, codebook: NDArray[np.float32]) -> Any:
    values = codebook.shape[0] * codebook.shape[2]
    index = faiss.IndexPQ(values, codebook.shape[0], _BITS, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(np.ascontiguousarray(codebook).ravel(), index.pq.centroids)
    index.is_trained = True
    return index


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise RuntimeUnavailableError(
            "a search index needs faiss: pip install 'limen[index]'"
        ) from error
    module: ModuleType = faiss
    return module
