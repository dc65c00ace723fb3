"""Embeddings of the `doors` and `cohort` parts of a folder of crops, made once and kept.

The folder holds crops-*.tar (112 x 112, aligned, PART/IDENTITY/PICTURE), splits.csv (identity,
part) and, for the comparison with peers, teachers.npz (path, sface, dlib, dlib_ok).
"""

from __future__ import annotations

import csv
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import limen

PARTS = ("doors", "cohort")


@dataclass(frozen=True)
class Part:
    """One part: embedding (n, D) unit norm, sface (n, 128) unit norm, dlib (n, 128) raw,
    dlib_ok (n,), person (n,) 0..people-1."""

    embedding: NDArray[np.float32]
    sface: NDArray[np.float32]
    dlib: NDArray[np.float32]
    dlib_ok: NDArray[np.bool_]
    person: NDArray[np.int64]


def load_parts(faces: Path, cache: Path) -> tuple[dict[str, Part], str]:
    """Both parts with the shipped default bundle, and its model id."""
    bundle = limen.open_bundle()
    embedder = bundle.embedder()
    file = cache / f"doors-{embedder.model_id[:12]}.npz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, **_embed(faces, embedder))
    with np.load(file) as arrays:
        stored = {name: arrays[name] for name in arrays.files}
    parts = {}
    for name in PARTS:
        rows = stored["part"] == name
        _, person = np.unique(stored["identity"][rows], return_inverse=True)
        parts[name] = Part(
            *(stored[key][rows] for key in ("embedding", "sface", "dlib", "dlib_ok")),
            person=person,
        )
    return parts, embedder.model_id


def _embed(faces: Path, embedder: limen.Embedder) -> dict[str, NDArray]:
    with (faces / "splits.csv").open(newline="") as file:
        part = {row["identity"]: row["part"] for row in csv.DictReader(file)}
    names, embeddings = [], []
    for tar in sorted(faces.glob("crops-*.tar")):
        print(f"embedding {tar.name}, {len(names)} so far", flush=True)
        with tarfile.open(tar) as archive:
            for member in archive:
                words = member.name.split("/")
                if not member.isfile() or part.get(words[1]) not in PARTS:
                    continue
                content = archive.extractfile(member)
                with Image.open(io.BytesIO(content.read())) as picture:
                    crop = np.asarray(picture.convert("RGB"))
                embeddings.append(embedder.embed(crop[None])[0])
                names.append(member.name)
    with np.load(faces / "teachers.npz") as teachers:
        row = {path.decode(): number for number, path in enumerate(teachers["path"])}
        rows = [row[name] for name in names]
        peers = {key: teachers[key][rows] for key in ("sface", "dlib", "dlib_ok")}
    return {
        "identity": np.array([name.split("/")[1] for name in names]),
        "part": np.array([part[name.split("/")[1]] for name in names]),
        "embedding": np.stack(embeddings),
        "sface": peers["sface"].astype(np.float32),
        "dlib": peers["dlib"].astype(np.float32),
        "dlib_ok": peers["dlib_ok"],
    }
