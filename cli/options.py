"""Options that several verbs share, and what they open."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from limen.bundle import Bundle
    from limen.detection import Detector
    from limen.embedder import Embedder

BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", "-b", envvar="LIMEN_BUNDLE", help="A .limen file; the shipped one."),
]
RuntimeOption = Annotated[
    str | None, typer.Option(help="tflite or onnx; the first that is installed.")
]
PrecisionOption = Annotated[
    str | None, typer.Option(help="float32, float16 or int8; the bundle's default.")
]
YuNetOption = Annotated[
    Path | None,
    typer.Option("--yunet", envvar="LIMEN_YUNET", help="A YuNet ONNX file, as the face finder."),
]
GalleryOption = Annotated[
    Path | None,
    typer.Option("--gallery", "-g", envvar="LIMEN_GALLERY", help="The gallery's file."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@dataclass(frozen=True)
class Recognition:
    """A bundle with its finder and embedder opened."""

    bundle: Bundle
    detector: Detector
    embedder: Embedder


def open_recognition(
    bundle: Path | None,
    runtime: str | None = None,
    precision: str | None = None,
    yunet: Path | None = None,
    threads: int = 1,
) -> Recognition:
    """Open what turns a picture into an embedding."""
    from limen.bundle import open_bundle

    opened = open_bundle(bundle)
    detector = opened.detector(yunet, runtime, threads)
    embedder = opened.embedder(runtime, precision, detector, threads)
    return Recognition(opened, detector, embedder)


def gallery_path(path: Path | None) -> Path:
    """The gallery that was named, else the user's own."""
    if path is not None:
        return path
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "limen" / "gallery.db"
