"""Sealing a bundle: the same parts give the same bytes, on any machine, at any time."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from limen.bundle import MANIFEST, parse_bundle
from limen.export.errors import ExportError
from limen.export.parity import BuiltGraph
from limen.files import write_atomically
from limen.manifest import Graph, Manifest

EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip archive can tell
PLAIN_FILE = 0o100644 << 16
UNIX = 3


def graph_entries(graphs: Sequence[BuiltGraph]) -> tuple[Graph, ...]:
    """The manifest's entries for graphs that passed the gate.

    Float32 graphs are each other's equivalents, since the gate held all of them to the trained
    network; a graph at another precision has none but itself.
    """
    return tuple(
        Graph(
            path=graph.path,
            sha256=digest(graph.content),
            bytes=len(graph.content),
            role="embedder",
            runtime=graph.runtime,
            precision=graph.precision,
            layout="NCHW" if graph.layout == "NCHW" else "NHWC",
            equivalents=equivalents_of(graph, graphs),
        )
        for graph in graphs
    )


def equivalents_of(graph: BuiltGraph, graphs: Sequence[BuiltGraph]) -> tuple[str, ...]:
    """The digests of the graphs whose answers are `graph`'s, its own included."""
    if graph.precision != "float32":
        return (digest(graph.content),)
    return tuple(sorted(digest(g.content) for g in graphs if g.precision == "float32"))


def digest(content: bytes) -> str:
    """SHA-256, as a manifest writes it."""
    return hashlib.sha256(content).hexdigest()


def seal_bundle(manifest: Manifest, parts: Mapping[str, bytes]) -> bytes:
    """Return a bundle's bytes: the manifest first, then `parts` by name, stored, without times.

    ExportError where `parts` are not the manifest's; BundleError where the result cannot be
    opened again, which is tried before it is returned.
    """
    announced = {part.path for part in manifest.parts()}
    if announced != set(parts):
        odd = sorted(announced ^ set(parts))
        raise ExportError(
            f"the manifest names {len(announced)} parts and {len(parts)} were given; "
            f"they differ in {', '.join(odd)}"
        )
    values = manifest.model_dump(mode="json")
    text = json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in [(MANIFEST, text.encode()), *sorted(parts.items())]:
            info = zipfile.ZipInfo(name, date_time=EPOCH)
            info.create_system = UNIX
            info.external_attr = PLAIN_FILE
            archive.writestr(info, content)
    sealed = buffer.getvalue()
    parse_bundle(sealed, f"the new bundle '{manifest.name}'")
    return sealed


def write_bundle(path: Path, manifest: Manifest, parts: Mapping[str, bytes]) -> None:
    """Seal a bundle into `path`, which holds the old file or the new one, whole, at any time."""
    sealed = seal_bundle(manifest, parts)
    with write_atomically(path) as file:
        file.write(sealed)
