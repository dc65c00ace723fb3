"""What an export depends on besides its pictures."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "limen",
    "torch",
    "numpy",
    "onnx",
    "onnxscript",
    "onnxslim",
    "onnxruntime",
    "litert-torch",
    "ai-edge-quantizer",
    "ai-edge-litert",
)


def packages_and_commit() -> dict[str, Any]:
    """What an export depends on besides its inputs: package versions, and the commit."""
    return {"packages": {name: _version(name) for name in PACKAGES}, "commit": _commit()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the folder that the export runs in, where it is a git checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
