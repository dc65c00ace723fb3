"""Do score normalisation and learned metrics help? The evidence on a bundle's own cohort.

    python benchmarks/normalisation_evidence.py [BUNDLE]

Prints FNMR at FMR 1e-2 and 1e-3 on people who served neither a fit nor a threshold, and what would
be chosen. No pictures are needed.
"""

from __future__ import annotations

import sys

import numpy as np

import limen
from limen.calibration.metric import metric_evidence
from limen.calibration.normalisation import compare_normalisations


def main() -> None:
    cohort = limen.open_bundle(sys.argv[1] if len(sys.argv) > 1 else None).cohort()
    rows, subject = cohort.embeddings, cohort.subject
    for max_fmr in (1e-2, 1e-3):
        rng = np.random.default_rng(1)
        print(compare_normalisations(rows, subject, max_fmr=max_fmr, rng=rng, splits=20))
        print(metric_evidence("wccn", rows, subject, max_fmr=max_fmr, rng=rng))
        print(metric_evidence("kissme", rows, subject, max_fmr=max_fmr, rng=rng))


if __name__ == "__main__":
    main()
