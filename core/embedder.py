"""Embedding aligned crops, the same way on every runtime."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from limen.alignment import CROP_PX
from limen.errors import BundleError, PictureError
from limen.images import letterbox
from limen.runtimes import Session
from limen.scaling import Scaling

_ALIGNED = (CROP_PX, CROP_PX, 3)


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
        self,
        session: Session,
        model_id: str,
        input_px: int,
        layout: str,
        scaling: Scaling,
        colour: str = "RGB",
        embedding_size: int | None = None,
    ) -> None:
        """layout: 'NCHW' or 'NHWC'; colour: 'RGB' or 'BGR', the order of the graph's channels.

        embedding_size: D, which the graph must give; None takes any.
        """
        self._session = session
        self._model_id = model_id
        self._shape = (input_px, input_px, 3)
        self._channels_first = layout == "NCHW"
        self._scaling = scaling
        self._blue_first = colour == "BGR"
        self._embedding_size = embedding_size

    @property
    def model_id(self) -> str:
        return self._model_id

    def embed(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = self.prepared(aligned)
        try:
            vectors = self._session.run(batch)
        except Exception as error:  # each runtime raises types of its own for a graph that fails
            raise BundleError(f"the graph fails when it is run ({type(error).__name__})") from error
        expected = (len(aligned), self._embedding_size or vectors.shape[-1])
        if vectors.shape != expected:
            raise BundleError(
                f"the graph gives {vectors.shape}, expected embeddings {expected}; check the bundle"
            )
        return unit_norm(vectors)

    def prepared(self, aligned: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) uint8 RGB -> what the graph takes: its size, colours, scale and layout.

        Crops of the size that faces are aligned at are scaled to the graph's, as the export scaled
        those of cohort and gate.
        """
        if aligned.shape[1:] == _ALIGNED and aligned.shape[1:] != self._shape:
            side_px = self._shape[0]
            aligned = np.stack([letterbox(crop, side_px) for crop in aligned])
        if aligned.ndim != 4 or aligned.shape[1:] != self._shape or aligned.dtype != np.uint8:
            raise PictureError(
                f"expected aligned crops (N, {', '.join(map(str, self._shape))}) uint8, "
                f"found {aligned.shape} {aligned.dtype}"
            )
        if self._blue_first:
            aligned = aligned[..., ::-1]
        batch = self._scaling.apply(aligned)
        if self._channels_first:
            return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        return batch


def unit_norm(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row of (N, D) to length 1. PictureError for a row that has no direction."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norm).all() or (norm < 1e-12).any():
        raise PictureError("the embedder gave a vector without direction; check the bundle")
    return np.asarray(vectors / norm, np.float32)
