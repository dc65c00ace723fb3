"""What a run of `limen prepare` was asked for, and whether a killed one may go on.

The plan lies in the folder of unfinished work. What shapes a crop must be the same when a run goes
on; the rules of what is kept may change, since they are applied at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL

from limen.files import write_atomically
from limen.train.prepare.crops import WEBP_QUALITY, CropMaker
from limen.train.prepare.duplicates import NEAR_BITS, NEAR_BITS_SCORE
from limen.train.prepare.judging import Rules
from limen.train.prepare.sources import AUTO, PrepareError, Source
from limen.train.prepare.suspects import MARGIN
from limen.train.shard_index import INDEX, ShardIndex, read_index
from limen.train.shards import UNFINISHED

PLAN = "plan.json"
LOCK = "lock"
MIN_FACE_PX = 40
SHARD_MB = 64
CHUNK = 128


@dataclass(frozen=True)
class Options:
    """What `prepare` does.

    folder, layout, unlabelled: as for `open_source`; out: the folder of shards; aligned: whether
    the pictures are crops already, None to go by the layout; min_face_px, bundle, runtime,
    precision, yunet, sface: as in `CropSettings`; shard_mb: a shard's size, 10**6 bytes;
    keep_work: leave the unfinished work's folder, so that other rules can be tried with resume;
    chunk: pictures of one piece of work.
    """

    folder: Path
    out: Path
    layout: str = AUTO
    unlabelled: bool = False
    aligned: bool | None = None
    min_face_px: int = MIN_FACE_PX
    rules: Rules = field(default_factory=Rules)
    bundle: Path | None = None
    runtime: str | None = None
    precision: str | None = None
    yunet: Path | None = None
    sface: Path | None = None
    workers: int = 1
    shard_mb: float = SHARD_MB
    resume: bool = False
    keep_work: bool = False
    chunk: int = CHUNK


@dataclass(frozen=True)
class Plan:
    """source and crops: what shapes the work; final: what shapes the shards made of it. All JSON."""

    source: dict[str, Any]
    crops: dict[str, Any]
    final: dict[str, Any]


def make_plan(options: Options, source: Source, maker: CropMaker, *, aligned: bool) -> Plan:
    """The plan of a run. maker: opened with the run's settings."""
    digest = hashlib.sha256()
    for line in source.fingerprint():
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return Plan(
        source={
            "layout": source.layout,
            "labelled": source.labelled and not options.unlabelled,
            "pictures": len(source),
            "sha256": digest.hexdigest(),
        },
        crops={
            "aligned": aligned,
            "min_face_px": 0 if aligned else options.min_face_px,
            "webp_quality": WEBP_QUALITY,
            "model_id": maker.model_id,
            "detector_id": maker.detector_id,
            "teacher_sha256": _file_digest(options.sface),
            "chunk": options.chunk,
            # Another release of one of these may give a crop other bytes.
            "packages": {
                "limen": version("limen"),
                "numpy": np.__version__,
                "opencv": cv2.__version__,
                "pillow": PIL.__version__,
            },
        },
        final={
            "rules": asdict(options.rules),
            "near_bits": NEAR_BITS,
            "near_bits_score": NEAR_BITS_SCORE,
            "label_margin": MARGIN,
            "shard_mb": options.shard_mb,
        },
    )


@contextlib.contextmanager
def claimed(options: Options) -> Iterator[Path]:
    """The folder of unfinished work in `out`, made where it is missing, and held against others.

    PrepareError where `out` holds anything that this run must not touch.
    """
    out = options.out
    work = out / UNFINISHED
    if out.resolve().is_relative_to(options.folder.resolve()):
        raise PrepareError(
            f"--out {out} lies inside {options.folder} and would be read as pictures: name another"
        )
    if out.exists() and not out.is_dir():
        raise PrepareError(f"--out {out}: expected a folder, found a file")
    if not options.resume:
        if work.is_dir():
            raise PrepareError(
                f"{out} holds a preparation that was not finished: add --resume to go on, or name "
                "another --out"
            )
        if out.is_dir() and any(out.iterdir()):
            raise PrepareError(
                f"{out} is not empty: name a new folder"
                + (", or see what is there with --resume" if (out / INDEX).exists() else "")
            )
    elif not work.is_dir() and not (out / INDEX).is_file():
        raise PrepareError(f"nothing to resume in {out}: run without --resume")
    try:
        work.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(work / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise PrepareError(
            f"{work}: cannot be made ({error.strerror}); check its rights"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise PrepareError(f"another 'limen prepare' is at work in {out}: let it end") from error
    try:
        yield work
    finally:
        if not (work / PLAN).exists():
            # Nothing was begun: leave no trace, so that the next try needs no --resume.
            with contextlib.suppress(OSError):
                (work / LOCK).unlink()
                work.rmdir()
                out.rmdir()
        os.close(descriptor)


def finished(out: Path, plan: Plan) -> ShardIndex | None:
    """The index of shards that are there already and are what `plan` gives, else None."""
    index = read_index(out)
    return index if index is not None and index.plan == asdict(plan) else None


def settle(work: Path, plan: Plan) -> None:
    """Keep the plan in `work`; PrepareError where the work there was begun with another."""
    path = work / PLAN
    if path.exists():
        try:
            begun = json.loads(path.read_bytes())
            differing = [
                f"{key} was {_short(begun[part].get(key))}, is {_short(now)}"
                for part, values in (("source", plan.source), ("crops", plan.crops))
                for key, now in values.items()
                if begun[part].get(key) != now
            ]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise PrepareError(
                f"{path} is damaged: remove {work.parent} and start without --resume"
            ) from error
        if differing:
            raise PrepareError(
                f"{work.parent} was begun otherwise: {'; '.join(differing)}. Run it as it was begun, "
                "or start again in another --out"
            )
    with write_atomically(path) as file:
        file.write(json.dumps(asdict(plan), indent=1, sort_keys=True).encode())


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:16]}…"


def _file_digest(path: Path | None) -> str | None:
    if path is None:
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()
