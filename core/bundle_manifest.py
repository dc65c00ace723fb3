"""A bundle's manifest: read as something hostile, and held against the archive's parts."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import ValidationError

from limen.errors import BundleError
from limen.manifest import SCHEMA_VERSION, Manifest, Part
from limen.manifest_history import upgraded
from limen.settings import explain_validation_error
from limen.signing import SIGNATURES

MANIFEST = "manifest.json"


def parse_manifest(content: bytes, name: str) -> Manifest:
    """The manifest, or BundleError with the field that is wrong."""
    try:
        values: Any = json.loads(
            content, object_pairs_hook=_unambiguous, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name}: {MANIFEST} is not valid JSON") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            f"{name}: bundle schema {version} is newer than {SCHEMA_VERSION}, which this limen "
            "reads: update limen, or export the bundle with this version"
        )
    try:
        return Manifest.model_validate(upgraded(values) if isinstance(values, dict) else values)
    except (ValidationError, RecursionError) as error:
        why = (
            explain_validation_error(error, Manifest)
            if isinstance(error, ValidationError)
            else "nested too deep"
        )
        raise BundleError(f"{name}: {MANIFEST}: {why}") from error


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is there twice")
    return values


def _no_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def check_names(manifest: Manifest, found: set[str], name: str) -> None:
    """BundleError unless the archive holds what the manifest names, each once, and nothing beside."""
    paths = [part.path for part in manifest.parts()]
    if len(set(paths)) != len(paths) or {MANIFEST, SIGNATURES} & set(paths):
        raise BundleError(f"{name}: {MANIFEST} names a part twice")
    for graph in (*manifest.graphs, *manifest.finder_graphs):
        if graph.sha256 not in graph.equivalents:
            raise BundleError(f"{name}: graph '{graph.path}' is not among its own 'equivalents'")
    cohort = manifest.cohort
    if cohort is not None and cohort.graph not in {None, *(g.path for g in manifest.graphs)}:
        raise BundleError(
            f"{name}: 'cohort.graph' is '{cohort.graph}', which is no graph of the embedder's"
        )
    beside = found - set(paths) - {MANIFEST, SIGNATURES}
    if beside:
        raise BundleError(f"{name}: '{sorted(beside)[0]}' is inside but not in {MANIFEST}")
    missing = set(paths) - found
    if missing:
        raise BundleError(f"{name}: part '{sorted(missing)[0]}' is missing; copy the bundle again")


def check_part(content: memoryview, part: Part, name: str) -> None:
    """BundleError unless a part has the size and SHA-256 that the manifest says."""
    if len(content) != part.bytes:
        raise BundleError(
            f"{name}: part '{part.path}' has {len(content)} bytes, {MANIFEST} says {part.bytes}"
        )
    if hashlib.sha256(content).hexdigest() != part.sha256:
        raise BundleError(
            f"{name}: part '{part.path}' was changed after sealing (its SHA-256 differs); "
            "copy the bundle again from where it was made"
        )
