"""Embedding aligned crops, the same way on every runtime."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from limen.errors import PictureError
from limen.runtimes import Session
from limen.scaling import Scaling


class Embedder(Protocol):
    """Turns aligned crops into embeddings."""

    @property
    def model_id(self) -> str:
        """Names everything that shapes an embedding; templates of another id never mix."""
        ...

    def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) uint8 RGB -> (N, D) float32 of unit norm."""
        ...


class RuntimeEmbedder:
    """An embedder over an inference session. The L2 normalisation happens here."""

    def __init__(
        self, session: Session, model_id: str, input_px: int, layout: str, scaling: Scaling
    ) -> None:
        self._session = session
        self._model_id = model_id
        self._shape = (input_px, input_px, 3)
        self._channels_first = layout == "NCHW"
        self._scaling = scaling

    @property
    def model_id(self) -> str:
        return self._model_id

    def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        if aligned.ndim != 4 or aligned.shape[1:] != self._shape or aligned.dtype != np.uint8:
            raise PictureError(
                f"expected aligned crops (N, {', '.join(map(str, self._shape))}) uint8, "
                f"found {aligned.shape} {aligned.dtype}"
            )
        batch = self._scaling.apply(aligned)
        if self._channels_first:
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        return unit_norm(self._session.run(batch))


def unit_norm(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row of (N, D) to length 1. PictureError for a row that has no direction."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norm).all() or (norm < 1e-12).any():
        raise PictureError("the embedder gave a vector without direction; check the bundle")
    return np.asarray(vectors / norm, np.float32)
