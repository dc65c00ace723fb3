"""Making the crops: the source's pictures in chunks, by processes, each chunk once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from limen.train.prepare.chunks import Chunk, chunk_of, load_chunk, save_chunk
from limen.train.prepare.crops import Crop, CropMaker, CropSettings
from limen.train.prepare.sources import PrepareError, Reader, Source, SourcePicture
from limen.train.prepare.workers import work

Report = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class Task:
    """A chunk to make: its number and its pictures."""

    number: int
    pictures: list[SourcePicture]


@dataclass(frozen=True, slots=True)
class Done:
    """A chunk that was written: how many pictures it has, and how many crops they gave."""

    number: int
    pictures: int
    crops: int


@dataclass(frozen=True, slots=True)
class ChunkMaking:
    """Opens, in a worker process, what makes a chunk. Picklable."""

    settings: CropSettings
    reader: Reader
    folder: Path

    def __call__(self) -> Callable[[Task], Done]:
        maker = CropMaker(self.settings, self.reader)
        parent = multiprocessing.parent_process()

        def make(task: Task) -> Done:
            results = []
            for picture in task.pictures:
                if parent is not None and not parent.is_alive():
                    raise SystemExit  # whoever goes on makes this chunk again
                results.append(maker.make(picture))
            chunk = chunk_of(results, maker.embedding_size, maker.teacher_size)
            save_chunk(chunk_path(self.folder, task.number), chunk)
            return Done(task.number, len(results), sum(isinstance(r, Crop) for r in results))

        return make


def chunk_path(folder: Path, number: int) -> Path:
    """Where chunk `number` lies."""
    return folder / f"chunk-{number:06d}.npz"


def make_chunks(
    source: Source, settings: CropSettings, folder: Path, size: int, workers: int, report: Report
) -> None:
    """Make the chunks that `folder` lacks.

    report: called with the pictures done, of them crops made, and of them found from an earlier
    run. PrepareError where a worker dies or the disk is full; what is done stays.
    """
    done = crops = found = 0
    missing: list[int] = []
    for number, start in enumerate(range(0, len(source), size)):
        count = min(size, len(source) - start)
        chunk = load_chunk(chunk_path(folder, number), count)
        if chunk is None:
            missing.append(number)
            continue
        done += count
        found += count
        crops += int((chunk.reason == "").sum())
    report(done, crops, found)
    tasks = (Task(n, source.pictures(n * size, (n + 1) * size)) for n in missing)
    for result in work(tasks, ChunkMaking(settings, source.reader, folder), workers):
        done += result.pictures
        crops += result.crops
        report(done, crops, found)


def each_chunk(source: Source, folder: Path, size: int) -> Iterator[tuple[int, Chunk]]:
    """The first picture's number and the chunk, in order. PrepareError where one is not whole."""
    for number, start in enumerate(range(0, len(source), size)):
        path = chunk_path(folder, number)
        chunk = load_chunk(path, min(size, len(source) - start))
        if chunk is None:
            raise PrepareError(f"{path} has become unreadable: run the same command with --resume")
        yield start, chunk
