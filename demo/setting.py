"""What a demonstration ran on, for its report: model, finder, runtime, board, versions."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from limen import __version__


@dataclass(frozen=True, slots=True)
class Setting:
    """What ran, and where. Every text is a few words for people."""

    bundle: str
    model_id: str
    runtime: str
    finder: str
    interim_finder: bool
    board: str
    versions: str


def describe(bundle: str, model_id: str, runtime: str, finder: str) -> Setting:
    """The setting of this process, on this machine; finder: a detector's id."""
    interim = finder.startswith("haar-")
    return Setting(
        bundle=bundle,
        model_id=model_id,
        runtime=runtime,
        finder=f"OpenCV's Haar cascades, {finder}" if interim else finder,
        interim_finder=interim,
        board=board_name(),
        versions=f"limen {__version__} · Python {platform.python_version()} · "
        f"NumPy {np.__version__} · OpenCV {cv2.__version__}",
    )


def board_name(device_tree: Path = Path("/proc/device-tree/model")) -> str:
    """The board as its firmware calls itself, else the kind of machine; with its cores."""
    try:
        name = device_tree.read_text("utf-8", errors="replace").strip("\0 \n")
    except OSError:
        name = f"{platform.system()} {platform.machine()}"
    return f"{name}, {os.cpu_count() or 1} cores"
