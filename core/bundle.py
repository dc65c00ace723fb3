"""Opening a bundle: one file with everything a door needs, checked before any of it is used.

`manifest.json` names every other part with its size and SHA-256; nothing may be missing and
nothing may be beside, but for signatures. Nothing is extracted to disk, no part is copied before
it is used, and graphs are looked through before a runtime sees them. docs/bundle.md lists what is
refused, with the test that tries it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TypeVar

import numpy as np

from limen.alignment import TEMPLATE_XY
from limen.archive import read_archive
from limen.bundle_manifest import MANIFEST, check_names, check_part, parse_manifest
from limen.cohort import CohortEmbeddings, decode_cohort, encode_cohort
from limen.detection import Detector
from limen.embedder import RuntimeEmbedder
from limen.errors import BundleError, RuntimeUnavailableError
from limen.finder import DOUBTS_BY_VERSION, FINDER_VERSION, FinderDetector, FinderInput
from limen.manifest import (
    FinderGraph,
    Graph,
    GraphFinder,
    HaarFinder,
    Manifest,
    RuntimeGraph,
    YuNetFinder,
)
from limen.onnx_check import check_onnx
from limen.runtimes import RUNTIMES, available_runtimes, open_session
from limen.scaling import Scaling
from limen.signing import SIGNATURES, PublicKey, Signature, decode_signatures
from limen.tflite_check import check_tflite
from limen.trust import NO_TRUST, Trust, board_trust

__all__ = [
    "DEFAULT_BUNDLE",
    "MANIFEST",
    "Bundle",
    "CohortEmbeddings",
    "decode_cohort",
    "encode_cohort",
    "open_bundle",
    "parse_bundle",
    "read_bundle_file",
]

MAX_BUNDLE_BYTES = 256 * 2**20
MAX_MANIFEST_BYTES = 2 * 2**20
DEFAULT_BUNDLE = "default.limen"

# Where the default precision has no graph for an installed runtime, the next best is taken.
_BY_PREFERENCE = ("float32", "float16", "int8")

AnyGraph = TypeVar("AnyGraph", bound=RuntimeGraph)


class Bundle:
    """An opened bundle. Every part has been checked against the manifest.

    signatures: what it carries, unchecked; signer: the trusted key that signed it, or None where
    none was demanded.
    """

    def __init__(
        self,
        manifest: Manifest,
        parts: Mapping[str, memoryview],
        name: str,
        signatures: tuple[Signature, ...] = (),
        signer: PublicKey | None = None,
    ) -> None:
        self.manifest = manifest
        self.signatures = signatures
        self.signer = signer
        self._parts = parts
        self._name = name

    def part(self, path: str) -> memoryview:
        """A part's bytes, `manifest.json` included, without copying. KeyError for no such part."""
        return self._parts[path]

    def detector(
        self,
        yunet: Path | None = None,
        runtime: str | None = None,
        threads: int = 1,
        precision: str | None = None,
    ) -> Detector:
        """The bundle's face finder, or the YuNet file that the user names.

        runtime: as for `embedder`; precision: the finder's own default where none is named, since
        it is another graph than the embedder's. RuntimeUnavailableError where none of the installed
        ones has a graph of the finder's.
        """
        finder = self.manifest.finder
        if yunet is not None or isinstance(finder, YuNetFinder):
            from limen.yunet import YuNetDetector

            return YuNetDetector(
                yunet if yunet is not None else self.part(self.manifest.finder_graphs[0].path)
            )
        if isinstance(finder, HaarFinder):
            from limen.haar import HaarDetector

            return HaarDetector()
        wanted = precision or finder.default_precision
        return self.detector_of(self._choose(finder.graphs, runtime, [wanted], "finder"), threads)

    def detector_of(
        self, graph: FinderGraph, threads: int = 1, version: int = FINDER_VERSION
    ) -> FinderDetector:
        """The face finder that runs one of the manifest's graphs.

        version: an earlier one finds as limen did then, for a gallery that was made with it.
        BundleError where the bundle's finder is none of limen's own.
        """
        finder = self.manifest.finder
        if not isinstance(finder, GraphFinder):
            raise BundleError(f"{self._name}: its finder is '{finder.kind}', no graph to choose")
        return FinderDetector(
            session=open_session(graph.runtime, bytes(self.part(graph.path)), threads),
            spec=FinderInput(
                finder.height_px,
                finder.width_px,
                graph.layout,
                Scaling(finder.scaling.mean, finder.scaling.divisor),
            ),
            detector_id=finder.detector_id(graph, version),
            min_confidence=finder.min_confidence,
            doubts=DOUBTS_BY_VERSION[version],
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
        finder = detector or self.detector(runtime=runtime)
        return self.embedder_of(self.graph(runtime, precision), finder, threads)

    def embedder_of(
        self, graph: Graph, detector: Detector | None = None, threads: int = 1
    ) -> RuntimeEmbedder:
        """The embedder that runs one of the manifest's graphs."""
        spec = self.manifest.input
        return RuntimeEmbedder(
            session=open_session(graph.runtime, bytes(self.part(graph.path)), threads),
            model_id=self.manifest.model_id(graph, (detector or self.detector()).detector_id),
            input_px=spec.px,
            layout=graph.layout,
            scaling=Scaling(spec.scaling.mean, spec.scaling.divisor),
            colour=spec.colour,
            embedding_size=self.manifest.embedding_size,
        )

    def graph(self, runtime: str | None = None, precision: str | None = None) -> Graph:
        """The graph that `embedder` would use. RuntimeUnavailableError where there is none.

        Where no precision is asked for and no installed runtime has the default one, the most
        exact that there is.
        """
        wanted = [precision] if precision else [self.manifest.default_precision, *_BY_PREFERENCE]
        return self._choose(self.manifest.graphs, runtime, wanted, "embedder")

    def _choose(
        self, graphs: Sequence[AnyGraph], runtime: str | None, precisions: Sequence[str], role: str
    ) -> AnyGraph:
        if runtime is not None and runtime not in RUNTIMES:
            raise RuntimeUnavailableError(
                f"unknown runtime '{runtime}'; expected one of {', '.join(RUNTIMES)}"
            )
        installed = available_runtimes()
        for precise in precisions:
            for candidate in [runtime] if runtime else installed:
                for graph in graphs:
                    if graph.runtime == candidate and graph.precision == precise:
                        return graph
        have = ", ".join(f"{g.runtime} {g.precision}" for g in graphs)
        wanted = precisions[0] if len(precisions) == 1 else "usable"
        raise RuntimeUnavailableError(
            f"{self._name} has no {wanted} {role} graph for "
            f"{runtime or ' or '.join(installed) or 'any runtime'}; "
            f"it has {have}; installed runtimes: {', '.join(installed) or 'none'} "
            "(pip install ai-edge-litert or onnxruntime)"
        )

    def cohort(self) -> CohortEmbeddings:
        """The strangers of a calibration. BundleError where the bundle carries none."""
        part = self.manifest.cohort
        if part is None:
            raise BundleError(
                f"{self._name} carries no cohort, so there are no strangers to compare with; make "
                "it again from a folder that has some ('limen prepare --cohort'), or use another"
            )
        return decode_cohort(self.part(part.path), self.manifest.embedding_size)


def open_bundle(path: str | Path | None = None, trust: Trust | None = None) -> Bundle:
    """Open and check a bundle; without a path, the one that ships with limen.

    trust: whose signature is demanded, and the memory against older bundles; this board's own
    where none is given (`limen.trust.board_trust`). The shipped bundle answers by its digest inside
    the package. BundleError with the part or field that is wrong, UntrustedBundleError where the
    signature is missing or wrong, or the bundle older than one that was opened before.
    """
    if path is None:
        return _open_default()
    trust = board_trust() if trust is None else trust
    bundle = parse_bundle(read_bundle_file(Path(path)), str(path), trust)
    if bundle.signer is not None:
        trust.remember(bundle.manifest, bundle.signer)
    return bundle


def read_bundle_file(path: Path) -> bytes:
    """A bundle's bytes, read once. BundleError where it is no plain file, or too large."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError(f"{path}: expected a bundle, found no plain file")
            content = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if len(content) > MAX_BUNDLE_BYTES:
        raise BundleError(f"{path}: larger than {MAX_BUNDLE_BYTES // 2**20} MiB; not a bundle")
    return content


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
    return parse_bundle(content, "the shipped bundle", is_known=True)


def parse_bundle(
    content: bytes, name: str, trust: Trust = NO_TRUST, *, is_known: bool = False
) -> Bundle:
    """Check a bundle's bytes. BundleError with the part or field that is wrong.

    is_known: a digest vouches for every byte already, so parts are not digested again and graphs
    not looked through, which is a fifth of a door's start.
    """
    parts = read_archive(content, name)
    if MANIFEST not in parts:
        raise BundleError(f"{name}: no {MANIFEST} inside; not a bundle")
    if len(parts[MANIFEST]) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{name}: {MANIFEST} is larger than {MAX_MANIFEST_BYTES // 2**20} MiB")
    raw_manifest = bytes(parts[MANIFEST])
    manifest = parse_manifest(raw_manifest, name)
    signatures = decode_signatures(bytes(parts[SIGNATURES]), name) if SIGNATURES in parts else ()
    # Who made it comes before what is in it: an untrusted bundle's graphs are not even looked at.
    signer = trust.check(manifest, raw_manifest, signatures, name)
    check_names(manifest, set(parts), name)
    for part in manifest.parts() if not is_known else ():
        check_part(parts[part.path], part, name)
    for graph in (*manifest.graphs, *manifest.finder_graphs) if not is_known else ():
        check = check_onnx if graph.runtime == "onnx" else check_tflite
        check(parts[graph.path], graph.path)
    if not np.allclose(np.array(manifest.alignment.template_xy), TEMPLATE_XY, atol=1e-3):
        raise BundleError(
            f"{name}: 'alignment.template_xy' is one that this limen does not align to"
        )
    return Bundle(manifest, parts, name, signatures, signer)
