"""WebDataset shards: plain tars of `KEY.webp`, `KEY.json` and `KEY.TEACHER.npy`.

The same crops give the same bytes: no clock, no owner, numbers rounded. Each part has shards of its
own, `PART-000000.tar` upwards, so that nobody who reads one trains on another. Pictures are dealt
to a part's shards in turn, since neighbours in a data set are one person, and a shuffle buffer
evens out less than a shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from limen.files import write_atomically
from limen.train.prepare.catalogue import Catalogue
from limen.train.prepare.chunks import Chunk
from limen.train.prepare.judging import Judgement
from limen.train.prepare.production import each_chunk
from limen.train.prepare.sources import PrepareError, Source, SourcePicture
from limen.train.shard_index import Shard, ShardedPart

MAX_OPEN_SHARDS = 200
_BLOCK = 512


def write_shards(
    out: Path,
    source: Source,
    work: Path,
    chunk_size: int,
    catalogue: Catalogue,
    judgement: Judgement,
    *,
    teacher: str,
    labelled: bool,
    shard_mb: float,
    report: Callable[[int], None],
) -> dict[str, ShardedPart]:
    """Write the kept crops to `out`, whole shards or none, and tell what is where.

    teacher: the name of the embeddings in the chunks, '' without any; report: called with the
    pictures written. Shards of an earlier try are replaced, and removed where they are too many.
    PrepareError where a part would need more than 200 shards at once; OSError where the disk is full.
    """
    suspected = {suspect.row: suspect.why for suspect in judgement.suspects}
    part_of = dict(zip(judgement.kept.tolist(), judgement.part, strict=True))
    row_of = dict(zip(catalogue.picture.tolist(), range(len(catalogue.picture)), strict=True))
    sizes = _sizes(source, work, chunk_size, row_of, part_of)
    pictures = Counter(judgement.part)
    counts = {
        part: min(pictures[part], math.ceil(size / (shard_mb * 1e6)))
        for part, size in sizes.items()
    }
    if sum(counts.values()) > MAX_OPEN_SHARDS:
        larger = math.ceil(sum(sizes.values()) / 1e6 / (MAX_OPEN_SHARDS - len(sizes)))
        raise PrepareError(
            f"{sum(counts.values())} shards are more than the {MAX_OPEN_SHARDS} that are written at "
            f"once: run the same command with --resume --shard-mb {larger}"
        )
    identities: dict[str, set[int]] = {part: set() for part in counts}
    turn = dict.fromkeys(counts, 0)
    done = 0
    with contextlib.ExitStack() as stack:
        writers = {
            part: [
                stack.enter_context(ShardWriter(out / f"{part}-{number:06d}.tar"))
                for number in range(count)
            ]
            for part, count in counts.items()
        }
        for start, chunk in each_chunk(source, work, chunk_size):
            for offset, picture in enumerate(source.pictures(start, start + len(chunk))):
                row = row_of.get(start + offset, -1)
                if row not in part_of:
                    continue
                part = part_of[row]
                note = _note(chunk, offset, picture, part, labelled, suspected.get(row))
                files = {"webp": chunk.crop(offset), "json": _json(note)}
                if teacher:
                    files[f"{teacher}.npy"] = _npy(chunk.teacher[offset])
                writer = writers[part][turn[part] % counts[part]]
                writer.add(f"{start + offset:09d}", files)
                turn[part] += 1
                identities[part].add(int(catalogue.identity[start + offset]))
                done += 1
            report(done)
    _remove_others(out, {w.path for shards in writers.values() for w in shards})
    return {
        part: ShardedPart(
            pictures=turn[part],
            identities=len(identities[part]) if labelled else 0,
            shards=tuple(writer.shard() for writer in writers[part]),
        )
        for part in sorted(counts)
    }


class ShardWriter:
    """One shard, in its place when the block ends without an exception."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pictures = 0
        self._file: _Hashed | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> ShardWriter:
        self._file = _Hashed(self._stack.enter_context(write_atomically(self.path)))
        self._tar = self._stack.enter_context(
            tarfile.open(
                fileobj=cast("IO[bytes]", self._file), mode="w|", format=tarfile.USTAR_FORMAT
            )
        )
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def add(self, key: str, files: Mapping[str, bytes]) -> None:
        """Append a sample: its files by suffix."""
        for suffix, content in files.items():
            member = tarfile.TarInfo(f"{key}.{suffix}")
            member.size = len(content)
            member.mode = 0o644
            self._tar.addfile(member, io.BytesIO(content))
        self._pictures += 1

    def shard(self) -> Shard:
        """What was written, once it is."""
        assert self._file is not None
        return Shard(
            path=self.path.name,
            pictures=self._pictures,
            bytes=self._file.size,
            sha256=self._file.digest.hexdigest(),
        )


class _Hashed:
    """Writes through, and keeps the digest and size of what went by."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)


def _sizes(
    source: Source,
    work: Path,
    chunk_size: int,
    row_of: Mapping[int, int],
    part_of: Mapping[int, str],
) -> dict[str, int]:
    """About how many bytes each part's shards hold together."""
    sizes: dict[str, int] = {}
    for start, chunk in each_chunk(source, work, chunk_size):
        ends = chunk.ends.tolist()
        for offset, end in enumerate(ends):
            part = part_of.get(row_of.get(start + offset, -1))
            if part is not None:
                crop = end - (ends[offset - 1] if offset else 0)
                rest = 4 * _BLOCK + (3 * _BLOCK if chunk.teacher.shape[1] else 0)
                sizes[part] = sizes.get(part, 0) + crop + rest
    return sizes


def _note(
    chunk: Chunk,
    offset: int,
    picture: SourcePicture,
    part: str,
    labelled: bool,
    suspected: str | None,
) -> dict[str, Any]:
    note: dict[str, Any] = {
        "identity": picture.identity if labelled else None,
        "part": part,
        "source": picture.name,
        "source_sha256": chunk.digest[offset].tobytes().hex(),
        "quality": round(float(chunk.quality[offset]), 4),
        "faces": int(chunk.faces[offset]),
        "box_xyxy": _rounded(chunk.box_xyxy[offset]),
        "landmarks_xy": [_rounded(point) for point in chunk.landmarks_xy[offset]],
    }
    if suspected is not None:
        note["suspected"] = suspected
    return note


def _rounded(values: NDArray[np.float32]) -> list[float]:
    return [round(float(value), 2) for value in values]


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _npy(row: NDArray[np.float16]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, row, allow_pickle=False)
    return buffer.getvalue()


def _remove_others(out: Path, written: set[Path]) -> None:
    for path in out.glob("*-[0-9][0-9][0-9][0-9][0-9][0-9].tar"):
        if path not in written:
            path.unlink()
