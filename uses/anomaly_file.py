"""What is familiar, as a file: numbers only, checked before any of it is used."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.arrays import pack_arrays, unpack_arrays
from limen.errors import BundleError, LimenError
from limen.files import write_atomically
from limen.settings import explain_validation_error
from limen.uses.anomaly import (
    AlarmPoint,
    AnomalyModel,
    Detector,
    DetectorKind,
    Mahalanobis,
    NearestNeighbours,
    OneClass,
)

MAX_BYTES = 2**31
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_SHAPES = {
    DetectorKind.KNN: {"familiar": 2, "k": 1},
    DetectorKind.MAHALANOBIS: {"means": 2, "whitening": 2},
    DetectorKind.ONE_CLASS: {"vectors": 2, "weights": 1, "kernel": 1},
}


class AnomalyFileError(LimenError, ValueError):
    """A file of what is familiar cannot be read or written."""


class _Point(BaseModel):
    model_config = _STRICT

    threshold: float
    max_false_alarms: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    false_alarm_rate: float = Field(ge=0, le=1)
    false_alarm_bound: float = Field(ge=0, le=1)
    familiar: int = Field(ge=1)
    groups: int = Field(ge=1)


class _Facts(BaseModel):
    model_config = _STRICT

    schema_version: int = Field(1, ge=1, le=1)
    kind: DetectorKind
    model_id: str = Field(max_length=64)
    embedding_size: int = Field(ge=1, le=65_536)
    point: _Point


def write_anomaly(path: Path, model: AnomalyModel) -> None:
    """Write it whole or not at all. It holds embeddings: only its user may read it."""
    facts = _Facts(
        schema_version=1,
        kind=model.kind,
        model_id=model.model_id,
        embedding_size=model.embedding_size,
        point=_Point(**asdict(model.point)),
    )
    told = np.frombuffer(facts.model_dump_json().encode(), np.uint8)
    try:
        with write_atomically(path, 0o600) as file:
            file.write(pack_arrays({"facts": told, **model.detector.arrays()}))
    except OSError as error:
        raise AnomalyFileError(f"{path}: cannot be written ({error.strerror})") from error


def read_anomaly(path: Path) -> AnomalyModel:
    """Read what `write_anomaly` wrote. AnomalyFileError with what is wrong."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise AnomalyFileError(f"{path}: larger than {MAX_BYTES // 2**20} MiB")
        arrays = unpack_arrays(path.read_bytes(), str(path))
        facts = _Facts.model_validate(json.loads(arrays.pop("facts").tobytes()))
    except OSError as error:
        raise AnomalyFileError(
            f"{path}: cannot be read ({error.strerror}); check the path"
        ) from error
    except ValidationError as error:
        raise AnomalyFileError(f"{path}: {explain_validation_error(error, _Facts)}") from error
    except (BundleError, KeyError, ValueError, RecursionError) as error:
        raise AnomalyFileError(f"{path}: not a file of 'limen anomaly fit', or damaged") from error
    wanted = _SHAPES[facts.kind]
    good = set(arrays) == set(wanted) and all(
        arrays[name].ndim == dimensions
        and arrays[name].dtype.kind in "if"
        and arrays[name].size
        and bool(np.isfinite(arrays[name]).all())
        for name, dimensions in wanted.items()
    )
    if not good or not _fits(facts, arrays):
        raise AnomalyFileError(f"{path}: its arrays do not fit each other; fit again")
    return AnomalyModel(
        facts.kind,
        _detector(facts.kind, arrays),
        AlarmPoint(**facts.point.model_dump()),
        facts.model_id,
        facts.embedding_size,
    )


def _fits(facts: _Facts, arrays: dict[str, NDArray[Any]]) -> bool:
    size = facts.embedding_size
    if facts.kind is DetectorKind.KNN:
        return (
            arrays["familiar"].shape[1] == size and arrays["k"].shape == (1,) and arrays["k"][0] > 0
        )
    if facts.kind is DetectorKind.MAHALANOBIS:
        return arrays["means"].shape[1] == size and arrays["whitening"].shape == (size, size)
    return (
        arrays["vectors"].shape == (len(arrays["weights"]), size)
        and arrays["kernel"].shape == (2,)
        and arrays["kernel"][0] > 0
    )


def _detector(kind: DetectorKind, arrays: dict[str, NDArray[Any]]) -> Detector:
    if kind is DetectorKind.KNN:
        return NearestNeighbours(arrays["familiar"].astype(np.float32), int(arrays["k"][0]))
    wide = {name: values.astype(np.float64) for name, values in arrays.items()}
    if kind is DetectorKind.MAHALANOBIS:
        return Mahalanobis(wide["means"], wide["whitening"])
    return OneClass(
        wide["vectors"], wide["weights"], float(wide["kernel"][0]), float(wide["kernel"][1])
    )
