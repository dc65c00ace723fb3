"""Finder and embedder of a door: as the user names them, else as they were tuned, else the bundle's."""

from __future__ import annotations

from pathlib import Path

from limen.bundle import Bundle
from limen.detection import Detector
from limen.device.tuned import open_tuned, tuning_file
from limen.embedder import Embedder


def open_models(
    bundle: Bundle,
    gallery: Path | None = None,
    *,
    runtime: str | None = None,
    precision: str | None = None,
    yunet: Path | None = None,
) -> tuple[Detector, Embedder]:
    """Open what turns a picture into an embedding.

    gallery: beside which the choice of `limen tune` is looked for. A runtime or precision that is
    named wins over it. RuntimeUnavailableError where nothing here runs what is asked for.
    """
    if gallery is not None and runtime is None and precision is None:
        tuned = open_tuned(bundle, tuning_file(gallery), yunet)
        if tuned is not None:
            return tuned
    detector = bundle.detector(yunet, runtime)
    return detector, bundle.embedder(runtime, precision, detector)
