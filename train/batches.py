"""P x K batches: P identities, K pictures of each, the same for the same seed and step.

Where a recipe asks for them, pictures of nobody known are added behind those (identity -1).

A batch is a pure function of (seed, step), so a resumed run sees what an unbroken one would have,
and worker threads can make batches in any order. Decoding and augmentation run in threads beside
the training thread: OpenCV and Pillow release the interpreter's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limen.train.augmentation.pipeline import augment
from limen.train.augmentation.settings import Augmentation
from limen.train.decoding import SoundDecoder
from limen.train.pictures import Pictures, PicturesError
from limen.train.ranks import ALONE, Ranks, share_of


@dataclass(frozen=True, slots=True)
class Batch:
    """crops: (n, px, px, 3) uint8 RGB; identity: (n,) int64, -1 for a picture of nobody known;
    index: (n,) int64 into the pictures.
    """

    crops: NDArray[np.uint8]
    identity: NDArray[np.int64]
    index: NDArray[np.int64]


class PKSampler:
    """P identities and K pictures of each. Every identity comes once before any comes twice.

    Identities with fewer than two pictures are left out: they have no mated pair. One with fewer
    than K repeats pictures.
    """

    def __init__(self, pictures: Pictures, identities: int, per_identity: int, seed: int) -> None:
        self._groups = [group for group in pictures.by_identity if len(group) >= 2]
        if len(self._groups) < 2:
            raise PicturesError(
                f"part '{pictures.part}': {len(self._groups)} identities have two pictures or "
                "more; mated pairs need at least two such identities"
            )
        self._identities = min(identities, len(self._groups))
        self._per_identity = per_identity
        self._seed = seed
        self.batches_per_epoch = len(self._groups) // self._identities

    def __len__(self) -> int:
        """How many pictures a batch has."""
        return self._identities * self._per_identity

    def indices(self, step: int) -> NDArray[np.int64]:
        """The pictures of batch `step`, (P * K,), grouped by identity."""
        epoch, position = divmod(step, self.batches_per_epoch)
        order = np.random.default_rng([self._seed, 1, epoch]).permutation(len(self._groups))
        start = position * self._identities
        rng = np.random.default_rng([self._seed, 2, step])
        rows = []
        for group in order[start : start + self._identities]:
            members = self._groups[group]
            enough = len(members) >= self._per_identity
            rows.append(rng.choice(members, self._per_identity, replace=not enough))
        return np.concatenate(rows)


class UnlabelledSampler:
    """`count` pictures without an identity a step. Every one comes once before any comes twice.

    PicturesError where `count` is above zero and there are none.
    """

    def __init__(self, pictures: Pictures, count: int, seed: int) -> None:
        self._rows = np.flatnonzero(pictures.identity < 0)
        if count and not len(self._rows):
            raise PicturesError(
                f"the recipe asks for {count} unlabelled pictures a step, but there are none: "
                "name a folder of them with --unlabelled, or set [batch] unlabelled = 0"
            )
        self._count = count
        self._seed = seed

    def indices(self, step: int) -> NDArray[np.int64]:
        """The pictures of batch `step`, (count,) int64."""
        if not self._count:
            return np.empty(0, np.int64)
        places = np.arange(step * self._count, (step + 1) * self._count)
        epochs, positions = np.divmod(places, len(self._rows))
        chosen = np.empty(self._count, np.int64)
        for epoch in np.unique(epochs):
            order = np.random.default_rng([self._seed, 5, int(epoch)]).permutation(self._rows)
            here = epochs == epoch
            chosen[here] = order[positions[here]]
        return chosen


def batches(
    sampler: PKSampler,
    decoder: SoundDecoder,
    augmentation_at: Callable[[int], Augmentation],
    seed: int,
    steps: range,
    unlabelled: UnlabelledSampler | None = None,
    workers: int = 1,
    ranks: Ranks = ALONE,
) -> Iterator[Batch]:
    """Yield the batches of `steps`, made ahead of time in `workers` threads.

    augmentation_at: the settings at a step; ranks: of a batch split over processes, this one's
    rows. A row does not depend on the others, so the parts together are the batch of one process.
    What goes wrong in a thread is raised here.
    """
    pictures, input_px = decoder.pictures, decoder.input_px

    def make(step: int) -> Batch:
        chosen = sampler.indices(step)
        if unlabelled is not None:
            chosen = np.concatenate([chosen, unlabelled.indices(step)])
        rows = share_of(len(chosen), ranks)
        augmentation = augmentation_at(step)
        crops = np.empty((len(rows), input_px, input_px, 3), np.uint8)
        index = np.empty(len(rows), np.int64)
        for place, row in enumerate(rows):
            index[place], crop = decoder.decode(int(chosen[row]))
            rng = np.random.default_rng([seed, 3, step, row])
            crops[place] = augment(crop, augmentation, rng)
        return Batch(crops, pictures.identity[index], index)

    # Enough that no thread idles while the training thread holds one batch and takes the next.
    ahead = workers + 2
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
        try:
            for step in steps:
                waiting.append(pool.submit(make, step))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
