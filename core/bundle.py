"""Opening a bundle: one file with everything a door needs, checked before any of it is used.

A bundle is a zip archive of stored (uncompressed) parts. `manifest.json` names every other part
with its size and SHA-256; nothing may be missing and nothing may be beside. Nothing is extracted
to disk, and no more is read than the manifest announces.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from limen.alignment import TEMPLATE_XY
from limen.detection import Detector
from limen.embedder import RuntimeEmbedder
from limen.errors import BundleError, RuntimeUnavailableError
from limen.finder import FINDER_VERSION, FinderDetector, FinderInput
from limen.manifest import (
    SCHEMA_VERSION,
    Graph,
    GraphFinder,
    HaarFinder,
    Manifest,
    Part,
    RuntimeGraph,
)
from limen.runtimes import RUNTIMES, available_runtimes, open_session
from limen.scaling import Scaling
from limen.settings import explain_validation_error

MANIFEST = "manifest.json"
MAX_BUNDLE_BYTES = 256 * 2**20
MAX_MANIFEST_BYTES = 2 * 2**20
MAX_PARTS = 64
DEFAULT_BUNDLE = "default.limen"

AnyGraph = TypeVar("AnyGraph", bound=RuntimeGraph)


@dataclass(frozen=True, slots=True)
class CohortEmbeddings:
    """embeddings: (n, D) float32, unit norm; subject: (n,) int64, numbers without names."""

    embeddings: NDArray[np.float32]
    subject: NDArray[np.int64]


class Bundle:
    """An opened bundle. Every part has been checked against the manifest."""

    def __init__(self, manifest: Manifest, parts: Mapping[str, bytes], name: str) -> None:
        self.manifest = manifest
        self._parts = parts
        self._name = name

    def detector(
        self,
        yunet: Path | None = None,
        runtime: str | None = None,
        threads: int = 1,
        precision: str | None = None,
    ) -> Detector:
        """The bundle's face finder, or the YuNet file that the user names.

        runtime: as for `embedder`; precision: the finder's own default where none is named, since
        it is another graph than the embedder's. RuntimeUnavailableError where none of the installed ones has a
        graph of the finder's.
        """
        if yunet is not None:
            from limen.yunet import YuNetDetector

            return YuNetDetector(yunet)
        finder = self.manifest.finder
        if isinstance(finder, HaarFinder):
            from limen.haar import HaarDetector

            return HaarDetector()
        graph = self._choose(
            finder.graphs, runtime, precision or finder.default_precision, "finder"
        )
        return FinderDetector(
            session=open_session(graph.runtime, self._parts[graph.path], threads),
            spec=FinderInput(
                finder.height_px,
                finder.width_px,
                graph.layout,
                Scaling(finder.scaling.mean, finder.scaling.divisor),
            ),
            detector_id=finder.detector_id(graph, FINDER_VERSION),
            min_confidence=finder.min_confidence,
        )

    def embedder(
        self,
        runtime: str | None = None,
        precision: str | None = None,
        detector: Detector | None = None,
        threads: int = 1,
    ) -> RuntimeEmbedder:
        """The embedder on an installed runtime.

        runtime: 'tflite', 'onnx', or the first that is installed; precision: 'float32', 'float16',
        'int8', or the bundle's default; detector: the one whose landmarks will align the crops,
        the bundle's own where none is given: it is part of the model id.
        RuntimeUnavailableError where no installed runtime has such a graph.
        """
        graph = self.graph(runtime, precision)
        spec = self.manifest.input
        return RuntimeEmbedder(
            session=open_session(graph.runtime, self._parts[graph.path], threads),
            model_id=self.manifest.model_id(
                graph, (detector or self.detector(runtime=runtime)).detector_id
            ),
            input_px=spec.px,
            layout=graph.layout,
            scaling=Scaling(spec.scaling.mean, spec.scaling.divisor),
        )

    def graph(self, runtime: str | None = None, precision: str | None = None) -> Graph:
        """The graph that `embedder` would use. RuntimeUnavailableError where there is none."""
        wanted = precision or self.manifest.default_precision
        return self._choose(self.manifest.graphs, runtime, wanted, "embedder")

    def _choose(
        self, graphs: Sequence[AnyGraph], runtime: str | None, precision: str, role: str
    ) -> AnyGraph:
        if runtime is not None and runtime not in RUNTIMES:
            raise RuntimeUnavailableError(
                f"unknown runtime '{runtime}'; expected one of {', '.join(RUNTIMES)}"
            )
        installed = available_runtimes()
        for candidate in [runtime] if runtime else installed:
            for graph in graphs:
                if graph.runtime == candidate and graph.precision == precision:
                    return graph
        have = ", ".join(f"{g.runtime} {g.precision}" for g in graphs)
        raise RuntimeUnavailableError(
            f"{self._name} has no {precision} {role} graph for "
            f"{runtime or ' or '.join(installed) or 'any runtime'}; "
            f"it has {have}; installed runtimes: {', '.join(installed) or 'none'} "
            "(pip install ai-edge-litert or onnxruntime)"
        )

    def cohort(self) -> CohortEmbeddings:
        """The strangers of a calibration. BundleError where the bundle carries none."""
        part = self.manifest.cohort
        if part is None:
            raise BundleError(f"{self._name} carries no cohort; calibrate with another bundle")
        return decode_cohort(self._parts[part.path], self.manifest.embedding_size)


def open_bundle(path: str | Path | None = None) -> Bundle:
    """Open and check a bundle; without a path, the one that ships with limen.

    BundleError with the part or field that is wrong.
    """
    if path is None:
        return _open_default()
    file = Path(path)
    try:
        if file.stat().st_size > MAX_BUNDLE_BYTES:
            raise BundleError(f"{file}: larger than {MAX_BUNDLE_BYTES // 2**20} MiB; not a bundle")
        content = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); check the path") from error
    return parse_bundle(content, str(file))


def _open_default() -> Bundle:
    """The shipped bundle is trusted through its digest inside the package."""
    folder = resources.files("limen.models")
    try:
        content = (folder / DEFAULT_BUNDLE).read_bytes()
        expected = (folder / f"{DEFAULT_BUNDLE}.sha256").read_text("ascii").split()[0]
    except (OSError, IndexError) as error:
        raise BundleError("the shipped bundle is missing; install limen again") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise BundleError("the shipped bundle has been changed; install limen again")
    return parse_bundle(content, "the shipped bundle")


def parse_bundle(content: bytes, name: str) -> Bundle:
    """Check a bundle's bytes. BundleError with the part or field that is wrong."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = _checked_entries(archive, name)
            manifest = _parse_manifest(_read(archive, entries, MANIFEST, name), name)
            _check_names(manifest, set(entries), name)
            parts = {
                part.path: _checked_part(_read(archive, entries, part.path, name), part, name)
                for part in manifest.parts()
            }
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise BundleError(
            f"{name}: not a whole bundle ({error}); copy it again from where it was made"
        ) from error
    if not np.allclose(np.array(manifest.alignment.template_xy), TEMPLATE_XY, atol=1e-3):
        raise BundleError(
            f"{name}: 'alignment.template_xy' is one that this limen does not align to"
        )
    return Bundle(manifest, parts, name)


def _checked_entries(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_PARTS:
        raise BundleError(f"{name}: {len(infos)} parts are more than {MAX_PARTS}; not a bundle")
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if info.filename in entries:
            raise BundleError(f"{name}: part '{info.filename}' is there twice")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise BundleError(f"{name}: part '{info.filename}' is compressed; parts are stored")
        entries[info.filename] = info
    if MANIFEST not in entries:
        raise BundleError(f"{name}: no {MANIFEST} inside; not a bundle")
    if entries[MANIFEST].file_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{name}: {MANIFEST} is larger than {MAX_MANIFEST_BYTES // 2**20} MiB")
    return entries


def _read(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], path: str, name: str
) -> bytes:
    if path not in entries:
        raise BundleError(f"{name}: part '{path}' is missing; copy the bundle again")
    with archive.open(entries[path]) as file:
        return file.read(entries[path].file_size)


def _parse_manifest(content: bytes, name: str) -> Manifest:
    try:
        values: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name}: {MANIFEST} is not valid JSON") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            f"{name}: bundle schema {version} is newer than {SCHEMA_VERSION}, which this limen "
            "reads: update limen, or export the bundle with this version"
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise BundleError(
            f"{name}: {MANIFEST}: {explain_validation_error(error, Manifest)}"
        ) from error


def _check_names(manifest: Manifest, found: set[str], name: str) -> None:
    paths = [part.path for part in manifest.parts()]
    if len(set(paths)) != len(paths):
        raise BundleError(f"{name}: {MANIFEST} names a part twice")
    finder = manifest.finder.graphs if isinstance(manifest.finder, GraphFinder) else ()
    for graph in (*manifest.graphs, *finder):
        if graph.sha256 not in graph.equivalents:
            raise BundleError(f"{name}: graph '{graph.path}' is not among its own 'equivalents'")
    beside = found - set(paths) - {MANIFEST}
    if beside:
        raise BundleError(f"{name}: '{sorted(beside)[0]}' is inside but not in {MANIFEST}")


def _checked_part(content: bytes, part: Part, name: str) -> bytes:
    if len(content) != part.bytes:
        raise BundleError(
            f"{name}: part '{part.path}' has {len(content)} bytes, {MANIFEST} says {part.bytes}"
        )
    if hashlib.sha256(content).hexdigest() != part.sha256:
        raise BundleError(
            f"{name}: part '{part.path}' was changed after sealing (its SHA-256 differs); "
            "copy the bundle again from where it was made"
        )
    return content


def encode_cohort(cohort: CohortEmbeddings) -> bytes:
    """A cohort as it lies in a bundle: int8 rows with one scale each, numbers for subjects."""
    scale = np.abs(cohort.embeddings).max(axis=1, keepdims=True) / 127
    buffer = io.BytesIO()
    np.savez(
        buffer,
        embeddings=np.round(cohort.embeddings / scale).astype(np.int8),
        subject=cohort.subject.astype(np.int32),
    )
    return buffer.getvalue()


def decode_cohort(content: bytes, embedding_size: int) -> CohortEmbeddings:
    """Read a cohort. BundleError where it is damaged or of another embedding size."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            rows, subject = archive["embeddings"], archive["subject"]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise BundleError("the cohort cannot be read; copy the bundle again") from error
    if rows.ndim != 2 or rows.shape[1] != embedding_size or subject.shape != rows.shape[:1]:
        raise BundleError(f"the cohort has shape {rows.shape}, expected (n, {embedding_size})")
    values = rows.astype(np.float32)
    norm = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return CohortEmbeddings(values / norm, subject.astype(np.int64))
