"""How well strangeness tells the strange from the familiar: AUROC, AUPR, FPR at 95 % TPR.

The strange are the positives. As in Hendrycks and Gimpel, ICLR 2017, and Liang et al., ICLR 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.calibration.rates import roc_auc
from limen.errors import CalibrationError

TPR = 0.95


@dataclass(frozen=True, slots=True)
class AnomalyFigures:
    """false_alarm_rate and detection_rate are at the model's own threshold."""

    familiar: int
    strange: int
    auroc: float
    aupr: float
    fpr_at_95_tpr: float
    false_alarm_rate: float
    detection_rate: float


def anomaly_figures(
    familiar: NDArray[np.float64], strange: NDArray[np.float64], threshold: float
) -> AnomalyFigures:
    """Figures of strangeness (n,) and (m,). CalibrationError where either is empty."""
    if not len(familiar) or not len(strange):
        raise CalibrationError("figures need familiar ones and strange ones, one at least of each")
    return AnomalyFigures(
        familiar=len(familiar),
        strange=len(strange),
        auroc=roc_auc(strange, familiar),
        aupr=average_precision(familiar, strange),
        fpr_at_95_tpr=fpr_at_tpr(familiar, strange, TPR),
        false_alarm_rate=float(np.mean(familiar >= threshold)),
        detection_rate=float(np.mean(strange >= threshold)),
    )


def average_precision(familiar: NDArray[np.float64], strange: NDArray[np.float64]) -> float:
    """Sum over thresholds of precision times the gain in recall; equal values are one threshold."""
    thresholds = np.unique(np.concatenate([familiar, strange]))[::-1]
    found = len(strange) - np.searchsorted(np.sort(strange), thresholds, side="left")
    alarms = len(familiar) - np.searchsorted(np.sort(familiar), thresholds, side="left")
    precision = found / (found + alarms)
    gained = np.diff(np.concatenate([[0], found])) / len(strange)
    return float((precision * gained).sum())


def fpr_at_tpr(familiar: NDArray[np.float64], strange: NDArray[np.float64], tpr: float) -> float:
    """The share of familiar ones at the highest threshold that finds `tpr` of the strange."""
    ordered = np.sort(strange)[::-1]
    wanted = int(np.ceil(tpr * len(strange) * (1 - 1e-12)))
    return float(np.mean(familiar >= ordered[max(1, wanted) - 1]))
