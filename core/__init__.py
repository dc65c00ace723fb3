"""limen: recognise the people a door was taught, offline, with honest error rates.

The public face of the package; everything else is reached by its module. Names are imported when
they are used: the lock process imports this package, and must not carry pictures and models.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limen.bundle import Bundle, open_bundle
    from limen.detection import DetectedFace, Detector
    from limen.embedder import Embedder
    from limen.errors import LimenError
    from limen.images import read_picture
    from limen.recognition import FaceSample, acquire

    __version__: str

_HOMES = {
    "Bundle": "bundle",
    "DetectedFace": "detection",
    "Detector": "detection",
    "Embedder": "embedder",
    "FaceSample": "recognition",
    "LimenError": "errors",
    "acquire": "recognition",
    "open_bundle": "bundle",
    "read_picture": "images",
}

__all__ = [
    "Bundle",
    "DetectedFace",
    "Detector",
    "Embedder",
    "FaceSample",
    "LimenError",
    "__version__",
    "acquire",
    "open_bundle",
    "read_picture",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'limen' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"limen.{_HOMES[name]}"), name)
    return found


def _version() -> str:
    # Imported here: reading the version costs a door's start a twentieth of a second on a board.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("limen")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
