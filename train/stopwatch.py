"""Where a run's time goes: waiting for batches, or computing on them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

WAITING_BOUND = 0.15
RECENT_STEPS = 100


class Stopwatch:
    """Splits the training thread's time into waiting for a batch and computing on it.

    What lies between a `computed` and the next wait (validation, checkpoints) counts as neither,
    so the rate is that of training itself. The figures are of the last `RECENT_STEPS` steps: a
    run's first steps, with cold caches, would spoil them for long.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._steps: deque[tuple[float, float, int]] = deque(maxlen=RECENT_STEPS)
        self._waited_s = 0.0
        self._arrived_s = 0.0

    def waiting(self, source: Iterable[Item]) -> Iterator[Item]:
        """Hand on the items of `source`, timing the wait for each."""
        iterator = iter(source)
        while True:
            started_s = self._clock()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._arrived_s = self._clock()
            self._waited_s = self._arrived_s - started_s
            yield item

    def computed(self, pictures: int) -> None:
        """Say that the step on the last item, with so many pictures, is done."""
        self._steps.append((self._waited_s, self._clock() - self._arrived_s, pictures))

    @property
    def pictures_per_second(self) -> float:
        """Of training alone; 0 before the first step."""
        total_s = sum(waited + computing for waited, computing, _ in self._steps)
        return sum(count for _, _, count in self._steps) / total_s if total_s > 0 else 0.0

    @property
    def waiting_share(self) -> float:
        """The share of the time spent waiting for batches, 0 to 1."""
        waited_s = sum(waited for waited, _, _ in self._steps)
        total_s = waited_s + sum(computing for _, computing, _ in self._steps)
        return waited_s / total_s if total_s > 0 else 0.0

    @property
    def bound(self) -> str:
        """What bounds the rate, and the remedy where there is one."""
        if self.waiting_share > WAITING_BOUND:
            return "bound by decoding and augmentation: add --workers"
        return "bound by the network"

    def summary(self) -> str:
        """The rate, what bounds it, and by how much, in one line."""
        return (
            f"{self.pictures_per_second:.0f} pictures a second, {self.bound} "
            f"({100 * self.waiting_share:.0f} % of the time waiting for batches)"
        )
