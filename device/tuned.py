"""What `limen tune` chose for this board: a small file beside the gallery, and how it is used.

It names graphs of a bundle and numbers of threads, and what they were timed with. Where the bundle
has changed since, all of it is ignored with a line in the log. Where only the machine or a runtime
has, its times mean nothing any more, and one thread is used; the graphs stay, since the gallery's
templates and threshold are of their model: an update must not lock everybody out.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.bundle import Bundle
from limen.detection import Detector
from limen.embedder import Embedder
from limen.errors import ConfigError, LimenError
from limen.files import write_atomically
from limen.manifest import Digest, PartName

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 64 << 10
MAX_THREADS = 64
# What a graph's time and rounding depend on; those that are installed count.
PACKAGES = ("ai-edge-litert", "tflite-runtime", "onnxruntime", "opencv-python-headless", "numpy")
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TuningKey(BaseModel):
    """What a choice was made for. It holds for nothing else.

    graphs: a digest over the bundle's graphs; packages: versions of the runtimes; machine: its
    architecture, name and processors.
    """

    model_config = _STRICT

    graphs: Digest
    packages: dict[str, str] = Field(max_length=len(PACKAGES))
    machine: str = Field(max_length=300)


class Pick(BaseModel):
    """A graph of the bundle, and on how many threads it runs."""

    model_config = _STRICT

    path: PartName
    threads: int = Field(ge=1, le=MAX_THREADS)
    median_ms: float = Field(ge=0)


class Tuning(BaseModel):
    """The choice. model_id: what finder and embedder are together; finder: None where the user's
    own YuNet file finds the faces, or the bundle carries no finder.
    """

    model_config = _STRICT

    version: Literal[1] = 1
    key: TuningKey
    model_id: str = Field(min_length=1, max_length=64)
    finder: Pick | None
    embedder: Pick
    measured_at: str = Field(max_length=40, description="UTC, ISO 8601")


def tuning_key(bundle: Bundle) -> TuningKey:
    """The key of this bundle, on this machine, with what is installed now."""
    manifest = bundle.manifest
    graphs = sorted((g.path, g.sha256) for g in (*manifest.graphs, *manifest.finder_graphs))
    return TuningKey(
        graphs=hashlib.sha256(json.dumps(graphs).encode()).hexdigest(),
        packages={name: version for name in PACKAGES if (version := _version(name))},
        machine=f"{platform.machine()}, {_board()}, {len(os.sched_getaffinity(0))} processors",
    )


def tuning_file(gallery: Path) -> Path:
    """Where the choice for a gallery's door lies."""
    return gallery.with_name(f"{gallery.name}.tuning.json")


def write_tuning(path: Path, tuning: Tuning) -> None:
    """Put a choice in force; the old one stays whole until then. ConfigError where it cannot be."""
    try:
        with write_atomically(path, mode=0o644) as file:
            file.write(tuning.model_dump_json(indent=1).encode())
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written ({error.strerror}); check the folder and the disk"
        ) from error


def read_tuning(path: Path) -> Tuning | None:
    """The choice that was written; None where there is none, or it is damaged, which is logged."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ValueError("too large")
        return Tuning.model_validate_json(content)
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, ValueError):
        logger.warning("%s: damaged, so it is ignored: run 'limen tune' again", path)
        return None


def open_tuned(
    bundle: Bundle, path: Path, yunet: Path | None = None
) -> tuple[Detector, Embedder] | None:
    """Finder and embedder as they were chosen; None, with a line in the log, where they cannot be.

    yunet: the finder's file where the user names one.
    """
    tuning = read_tuning(path)
    if tuning is None:
        return None
    found = tuning_key(bundle)
    if tuning.key.graphs != found.graphs:
        logger.warning("%s: of another bundle, so it is ignored: run 'limen tune' again", path)
        return None
    if tuning.key != found:
        changed = "machine" if tuning.key.machine != found.machine else "runtime"
        logger.warning(
            "%s: timed with another %s, so its threads are ignored: run 'limen tune' again",
            path,
            changed,
        )
        tuning = tuning.model_copy(
            update={
                "finder": tuning.finder and tuning.finder.model_copy(update={"threads": 1}),
                "embedder": tuning.embedder.model_copy(update={"threads": 1}),
            }
        )
    try:
        opened = open_picks(bundle, tuning.finder, tuning.embedder, yunet)
    except LimenError as error:
        logger.warning("%s: ignored (%s): run 'limen tune' again", path, error)
        return None
    if opened[1].model_id != tuning.model_id:  # another finder than it was tuned with
        logger.warning(
            "%s: tuned with another finder, so it is ignored: run 'limen tune' again", path
        )
        return None
    return opened


def open_picks(
    bundle: Bundle, finder: Pick | None, embedder: Pick, yunet: Path | None = None
) -> tuple[Detector, Embedder]:
    """Open what was picked. ConfigError for a graph that the bundle does not have."""
    graphs = {graph.path: graph for graph in bundle.manifest.graphs}
    finders = {graph.path: graph for graph in bundle.manifest.finder_graphs}
    if embedder.path not in graphs or (finder is not None and finder.path not in finders):
        raise ConfigError("it names a graph that the bundle does not have")
    if finder is None or yunet is not None:
        detector = bundle.detector(yunet)
    else:
        detector = bundle.detector_of(finders[finder.path], finder.threads)
    return detector, bundle.embedder_of(graphs[embedder.path], detector, embedder.threads)


def _version(package: str) -> str | None:
    from importlib import metadata  # 10 ms that a door without a choice need not spend

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _board() -> str:
    """The board's name as its firmware gives it, else the processor's."""
    try:
        return Path("/proc/device-tree/model").read_text("utf-8").strip("\0\n ")[:100]
    except (OSError, UnicodeDecodeError):
        pass
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()[:100]
    except (OSError, UnicodeDecodeError):
        pass
    return "unknown"
