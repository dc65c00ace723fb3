"""Reading WebDataset shards: what `limen prepare` writes, and what other programs write alike.

A shard is a plain tar. Files of one sample lie together and share what stands before the first dot
of their names (the key): a picture (`KEY.webp`, or another picture's suffix), `KEY.json` with
`identity` and `part`, or `KEY.cls` with a class's number, and `KEY.TEACHER.npy` with a teacher's
embedding. Shards without a part are split by a hash of the identity, as folders are.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from limen.images import MAX_FILE_BYTES, PICTURE_SUFFIXES
from limen.train.pictures import Pictures, PicturesError, part_by_hash
from limen.train.shard_index import read_index

UNLABELLED, HELD_OUT = "unlabelled", "held-out"
UNFINISHED = ".prepare"  # the folder of work in progress
MAX_NOTE_BYTES = 2**20
MAX_EMBEDDING = 65_536

_SHARD_NAME = re.compile(r"(?!crops-).*-[0-9]{3,}\.tar")


@dataclass(slots=True)
class Sample:
    """The files of one key: the picture, the JSON's or class's text, and teachers by name."""

    key: str
    picture: bytes | None = None
    note: dict[str, object] = field(default_factory=dict)
    teachers: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def find_shards(folder: Path) -> list[Path]:
    """The shards in `folder`, by name; none where it is of another layout.

    An index counts, or a name like `train-000012.tar`, unless the files of another layout are there. PicturesError where the index is damaged, or the preparation is not finished.
    """
    index = read_index(folder)
    if index is not None:
        return [folder / shard.path for part in index.parts.values() for shard in part.shards]
    if (folder / UNFINISHED).is_dir():
        raise PicturesError(
            f"{folder}: its preparation is not finished; run the same 'limen prepare' with --resume"
        )
    if any((folder / name).is_file() for name in ("splits.csv", "teachers.npz")):
        return []
    return sorted(path for path in folder.glob("*.tar") if _SHARD_NAME.fullmatch(path.name))


def read_shards(folder: Path, shards: Sequence[Path], part: str) -> Pictures:
    """The pictures of `part`; those without an identity, as number -1, where it is 'unlabelled'.

    Teachers are kept where every picture has their embedding. PicturesError with the shard and the
    key for whatever is wrong inside.
    """
    index = read_index(folder)
    if index is not None:
        if part not in index.parts:
            raise PicturesError(
                f"{folder}: no part '{part}'; its shards hold {', '.join(sorted(index.parts))}"
            )
        shards = [folder / shard.path for shard in index.parts[part].shards]
    samples: dict[str, tuple[Sample, str | None]] = {}
    other_parts: set[str] = set()
    for shard in shards:
        for sample in iterate_shard(shard):
            identity = _identity(shard, sample)
            own_part = _part(shard, sample, identity)
            if own_part != part:
                other_parts.add(own_part)
                continue
            if sample.key in samples:
                raise PicturesError(f"{shard}: key '{sample.key}' was there before; {_AGAIN}")
            samples[sample.key] = sample, identity
    if not samples:
        found = ", ".join(sorted(other_parts)) or "nothing"
        raise PicturesError(f"{folder}: no picture of part '{part}'; its shards hold {found}")
    return _assemble(part, list(samples.values()))


def iterate_shard(shard: Path) -> Iterator[Sample]:
    """The samples of one shard, in their order; each has a picture. PicturesError as above."""
    sample: Sample | None = None
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                head, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                key = f"{head}/{stem}" if head else stem
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield _whole(shard, sample)
                    sample = Sample(key)
                content = tar.extractfile(member)
                assert content is not None
                _add(shard, sample, suffix.lower(), content, member.size)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise PicturesError(f"{shard}: cannot be read whole ({error}); {_AGAIN}") from error
    if sample is not None:
        yield _whole(shard, sample)


_AGAIN = "copy it again, or prepare it again"


def _add(shard: Path, sample: Sample, suffix: str, content: IO[bytes], size: int) -> None:
    where = f"{shard}, '{sample.key}.{suffix}'"
    if f".{suffix}" in PICTURE_SUFFIXES:
        if sample.picture is not None:
            raise PicturesError(f"{where}: a second picture under one key; {_AGAIN}")
        sample.picture = _read(where, content, size, MAX_FILE_BYTES)
    elif suffix == "json":
        text = _read(where, content, size, MAX_NOTE_BYTES)
        try:
            note = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PicturesError(f"{where}: not valid JSON; {_AGAIN}") from error
        if not isinstance(note, dict):
            raise PicturesError(f"{where}: expected a JSON object; {_AGAIN}")
        sample.note |= note
    elif suffix == "cls":
        number = _read(where, content, size, MAX_NOTE_BYTES).decode("utf-8", "replace").strip()
        sample.note.setdefault("identity", number)
    elif suffix.endswith(".npy"):
        sample.teachers[suffix.removesuffix(".npy")] = _embedding(where, content, size)


def _read(where: str, content: IO[bytes], size: int, most: int) -> bytes:
    if size > most:
        raise PicturesError(f"{where}: {size} bytes are more than the {most} that are read")
    data = content.read()
    if len(data) != size:
        raise PicturesError(f"{where}: cut short; {_AGAIN}")
    return data


def _embedding(where: str, content: IO[bytes], size: int) -> NDArray[np.float32]:
    data = _read(where, content, size, 16 * MAX_EMBEDDING)
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise PicturesError(f"{where}: not an array of numpy's; {_AGAIN}") from error
    if not (
        isinstance(values, np.ndarray)
        and values.ndim == 1
        and 0 < values.size <= MAX_EMBEDDING
        and np.issubdtype(values.dtype, np.floating)
        and np.isfinite(values).all()
    ):
        raise PicturesError(f"{where}: expected a row of finite floating-point numbers; {_AGAIN}")
    return np.asarray(values, np.float32)


def _whole(shard: Path, sample: Sample) -> Sample:
    if sample.picture is None:
        raise PicturesError(f"{shard}: key '{sample.key}' has no picture; {_AGAIN}")
    return sample


def _identity(shard: Path, sample: Sample) -> str | None:
    identity = sample.note.get("identity")
    if identity is None or (isinstance(identity, str) and identity):
        return identity
    if isinstance(identity, int):
        return str(identity)
    raise PicturesError(
        f"{shard}: key '{sample.key}' has an identity that is neither a name, a number nor null"
    )


def _part(shard: Path, sample: Sample, identity: str | None) -> str:
    part = sample.note.get("part")
    if isinstance(part, str):
        return part
    if part is not None:
        raise PicturesError(f"{shard}: key '{sample.key}' has a part that is no name")
    return UNLABELLED if identity is None else part_by_hash(identity)


def _assemble(part: str, samples: Sequence[tuple[Sample, str | None]]) -> Pictures:
    names = sorted({identity for _, identity in samples if identity is not None})
    number = {name: index for index, name in enumerate(names)}
    first = samples[0][0].teachers
    teachers = {}
    for name, values in first.items():
        if not all(
            name in sample.teachers and sample.teachers[name].size == values.size
            for sample, _ in samples
        ):
            continue
        rows = np.stack([sample.teachers[name] for sample, _ in samples])
        norm = np.linalg.norm(rows, axis=1, keepdims=True)
        teachers[name] = np.asarray(rows / np.maximum(norm, 1e-12), np.float32)
    return Pictures(
        part=part,
        encoded=[sample.picture or b"" for sample, _ in samples],
        paths=[sample.key for sample, _ in samples],
        identity=np.array(
            [-1 if identity is None else number[identity] for _, identity in samples], np.int64
        ),
        names=names,
        teachers=teachers,
    )
