"""limen: recognise the people a door was taught, offline, with honest error rates.

The public face of the package; everything else is reached by its module.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from limen.bundle import Bundle, open_bundle
from limen.detection import DetectedFace, Detector
from limen.embedder import Embedder
from limen.errors import LimenError
from limen.images import read_picture
from limen.recognition import FaceSample, acquire

try:
    __version__ = version("limen")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

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
