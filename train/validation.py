"""Error rates of a network on a part of the pictures, by identity."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from limen.calibration.rates import equal_error_rate, fnmr_at_fmr
from limen.calibration.scores import mated_and_non_mated
from limen.scaling import SCALING
from limen.train.pictures import Pictures
from limen.train.ranks import ALONE, Ranks, share_of


@torch.inference_mode()
def embed_pictures(
    network: nn.Module,
    pictures: Pictures,
    input_px: int,
    batch: int = 64,
    rows: range | None = None,
) -> NDArray[np.float32]:
    """Unit-norm embeddings of all pictures, or of `rows`, (n, D) float32."""
    rows = range(len(pictures)) if rows is None else rows
    was_training = network.training
    network.eval()
    found = []
    for start in range(0, len(rows), batch):
        crops = np.stack([pictures.decode(i, input_px) for i in rows[start : start + batch]])
        found.append(torch.nn.functional.normalize(network(to_input(crops))).numpy())
    network.train(was_training)
    return np.concatenate(found)


def to_input(crops: NDArray[np.uint8]) -> torch.Tensor:
    """(N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32, scaled, channels last in memory."""
    return torch.from_numpy(SCALING.apply(crops)).permute(0, 3, 1, 2)


def validate(
    network: nn.Module, pictures: Pictures, input_px: int, ranks: Ranks = ALONE
) -> dict[str, float]:
    """FNMR at FMR 1e-2 and 1e-3, and EER, over all pairs of `pictures`; with the counts.

    Each of `ranks` embeds its share, and all get the result.
    """
    if len(pictures) < ranks.size:
        ranks = ALONE
    rows = share_of(len(pictures), ranks)
    embeddings = embed_pictures(network, pictures, input_px, rows=rows)
    embeddings = ranks.gather_rows_of(len(pictures), torch.from_numpy(embeddings)).numpy()
    mated, non_mated = mated_and_non_mated(embeddings, pictures.identity)
    return {
        "fnmr_at_fmr_1e-2": fnmr_at_fmr(mated, non_mated, 1e-2),
        "fnmr_at_fmr_1e-3": fnmr_at_fmr(mated, non_mated, 1e-3),
        "eer": equal_error_rate(mated, non_mated),
        "mated_comparisons": float(len(mated)),
        "non_mated_comparisons": float(len(non_mated)),
        "identities": float(len(pictures.names)),
    }
