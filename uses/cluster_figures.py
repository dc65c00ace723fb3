"""How far groups agree with labels: NMI, AMI, B-cubed and pairwise F.

B-cubed: Bagga and Baldwin, 1998, as analysed by Amigó et al., Information Retrieval 12(4), 2009.
NMI and AMI are scikit-learn's: Vinh, Epps and Bailey, JMLR 11, 2010, with arithmetic means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """precision, recall and their harmonic mean, each 0 to 1."""

    precision: float
    recall: float

    @property
    def f(self) -> float:
        """The harmonic mean; 0 where both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True, slots=True)
class ClusterFigures:
    """Agreement of groups with labels, over `rows` labelled rows."""

    rows: int
    classes: int
    groups: int
    nmi: float
    ami: float
    b_cubed: PrecisionRecall
    pairwise: PrecisionRecall


def cluster_figures(number: NDArray[np.int64], label: NDArray[np.int64]) -> ClusterFigures:
    """Figures of groups (n,) against labels (n,). Needs scikit-learn."""
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    return ClusterFigures(
        rows=len(label),
        classes=len(np.unique(label)),
        groups=len(np.unique(number)),
        nmi=float(normalized_mutual_info_score(label, number)),
        ami=float(adjusted_mutual_info_score(label, number)),
        b_cubed=b_cubed(number, label),
        pairwise=pairwise(number, label),
    )


def b_cubed(number: NDArray[np.int64], label: NDArray[np.int64]) -> PrecisionRecall:
    """Mean over rows: the share of its group that has its label, and of its label in its group."""
    shared, group, of_label = _contingency(number, label)
    squared = shared.data.astype(np.float64) ** 2
    rows = len(number)
    return PrecisionRecall(
        precision=float((squared / group[shared.row]).sum() / rows),
        recall=float((squared / of_label[shared.col]).sum() / rows),
    )


def pairwise(number: NDArray[np.int64], label: NDArray[np.int64]) -> PrecisionRecall:
    """Of pairs in one group, the share of one label; of pairs of one label, the share in one group.

    No pair at all is no mistake: 1.
    """
    shared, group, of_label = _contingency(number, label)
    both, grouped, same = (
        float((counts.astype(np.float64) * (counts - 1.0)).sum())
        for counts in (shared.data, group, of_label)
    )
    return PrecisionRecall(both / grouped if grouped else 1.0, both / same if same else 1.0)


def _contingency(
    number: NDArray[np.int64], label: NDArray[np.int64]
) -> tuple[coo_array, NDArray[np.int64], NDArray[np.int64]]:
    """Rows by group and label, sparse; sizes of groups; sizes of labels."""
    rows = np.unique(number, return_inverse=True)[1]
    columns = np.unique(label, return_inverse=True)[1]
    table = coo_array((np.ones(len(rows), np.int64), (rows, columns)))
    table.sum_duplicates()
    return table, np.bincount(rows), np.bincount(columns)
