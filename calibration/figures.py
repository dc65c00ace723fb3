"""Figures of merit that others report: d', Cllr, TAR at FMR, FMR100, FMR1000, ZeroFMR.

The decision rule is that of `limen.calibration.rates`: `score >= threshold` matches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limen.calibration.likelihood import cllr, isotonic_log_ratios
from limen.calibration.rates import equal_error_rate, fnmr_at_fmr, roc_auc, tar_at_fmr
from limen.calibration.scores import Scores
from limen.errors import CalibrationError


def d_prime(mated: Scores, non_mated: Scores) -> float:
    """Distance of the means in units of the root mean of both variances (Daugman, 2000).

    CalibrationError where a class has fewer than two scores, or neither varies.
    """
    m, n = np.asarray(mated, np.float64), np.asarray(non_mated, np.float64)
    if len(m) < 2 or len(n) < 2 or not (np.isfinite(m).all() and np.isfinite(n).all()):
        raise CalibrationError("d': expected two or more finite scores of each class")
    spread = np.sqrt((m.var(ddof=1) + n.var(ddof=1)) / 2)
    if spread == 0:
        raise CalibrationError("d': all scores of each class are equal, so it has no scale")
    return float((m.mean() - n.mean()) / spread)


def min_cllr(mated: Scores, non_mated: Scores) -> float:
    """Cllr after the best monotone recalibration: what discrimination alone allows, in bits.

    Pool adjacent violators, as Brümmer and du Preez (Computer Speech and Language 20, 2006).
    """
    return cllr(*isotonic_log_ratios(mated, non_mated))


@dataclass(frozen=True, slots=True)
class Figures:
    """One row of a table. fmr100, fmr1000: FNMR at FMR 1e-2 and 1e-3; zero_fmr: at none observed.

    (Maio et al., FVC2000.) min_cllr in bits.
    """

    eer: float
    auc: float
    d_prime: float | None
    min_cllr: float
    tar_at_fmr_1e_2: float
    tar_at_fmr_1e_3: float
    fmr100: float
    fmr1000: float
    zero_fmr: float


def figures(mated: Scores, non_mated: Scores) -> Figures:
    """All of them. d' is None where it has no scale. CalibrationError for an empty class or NaN."""
    fmr100, fmr1000 = (fnmr_at_fmr(mated, non_mated, rate) for rate in (1e-2, 1e-3))
    try:
        separation: float | None = d_prime(mated, non_mated)
    except CalibrationError:
        separation = None
    return Figures(
        eer=equal_error_rate(mated, non_mated),
        auc=roc_auc(mated, non_mated),
        d_prime=separation,
        min_cllr=min_cllr(mated, non_mated),
        tar_at_fmr_1e_2=tar_at_fmr(mated, non_mated, 1e-2),
        tar_at_fmr_1e_3=tar_at_fmr(mated, non_mated, 1e-3),
        fmr100=fmr100,
        fmr1000=fmr1000,
        zero_fmr=fnmr_at_fmr(mated, non_mated, 0.0),
    )
