"""`shards.json`: what a folder of shards holds, typed, and checked before any of it is read.

It is written last, so a folder without it was not finished, or was made by another program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.settings import explain_validation_error
from limen.train.pictures import PicturesError

INDEX = "shards.json"
MAX_INDEX_BYTES = 64 * 2**20

_STRICT = ConfigDict(extra="forbid", frozen=True)

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PartName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


class Shard(BaseModel):
    """One archive."""

    model_config = _STRICT

    path: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}-[0-9]{6}\.tar$")
    pictures: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: Digest


class ShardedPart(BaseModel):
    """A part and the archives that hold it. identities: 0 where nobody is known."""

    model_config = _STRICT

    pictures: int = Field(ge=1)
    identities: int = Field(ge=0)
    shards: tuple[Shard, ...] = Field(min_length=1)


class ShardTeacher(BaseModel):
    """A teacher whose embeddings lie beside every picture as KEY.NAME.npy."""

    model_config = _STRICT

    size: int = Field(ge=1, le=65_536)
    sha256: Digest


class ShardIndex(BaseModel):
    """The whole file. plan: what the shards were made from and how, for whoever asks later."""

    model_config = _STRICT

    format: Literal["limen-shards"] = "limen-shards"
    schema_version: Literal[1] = 1
    labelled: bool
    parts: dict[PartName, ShardedPart] = Field(min_length=1)
    teachers: dict[str, ShardTeacher]
    plan: dict[str, Any]


def read_index(folder: Path) -> ShardIndex | None:
    """The index of `folder`, None where it has none.

    PicturesError where it is damaged or a shard that it names is missing or of another size.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_INDEX_BYTES:
        raise PicturesError(f"{path}: larger than {MAX_INDEX_BYTES // 2**20} MiB; no index of ours")
    try:
        index = ShardIndex.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise PicturesError(f"{path}: {explain_validation_error(error, ShardIndex)}") from error
    for shard in (shard for part in index.parts.values() for shard in part.shards):
        file = folder / shard.path
        found = file.stat().st_size if file.is_file() else None
        if found != shard.bytes:
            raise PicturesError(
                f"{file}: expected {shard.bytes} bytes, found "
                f"{'no such file' if found is None else found}; copy the shards again"
            )
    return index
