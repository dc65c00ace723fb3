"""Worker processes that are watched: one that is killed is an error, never a wait without end.

Each worker has a pipe of its own. Nothing is shared between workers, so that the death of one
leaves no lock behind; and a worker whose parent was killed reads the end of its pipe and ends too.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Generic, TypeVar

from limen.errors import LimenError
from limen.train.prepare.sources import PrepareError

Task = TypeVar("Task")
Result = TypeVar("Result")

_STOP_S = 5.0


class _Worker(Generic[Task]):
    """A process and the parent's end of its pipe."""

    def __init__(self, process: SpawnProcess, connection: Connection) -> None:
        self.process = process
        self.connection = connection
        self.busy = False

    def give(self, task: Task) -> None:
        """Send a task. A pipe that is broken shows at the next wait, as a death."""
        self.busy = True
        with contextlib.suppress(OSError):
            self.connection.send(task)


def work(
    tasks: Iterable[Task],
    open_worker: Callable[[], Callable[[Task], Result]],
    workers: int,
) -> Iterator[Result]:
    """Do `tasks` in `workers` processes; results come as they are done, in no set order.

    open_worker: picklable; called once in each process, gives what does a task. What it or a task
    raises is raised here: a LimenError or OSError as a PrepareError with its text. PrepareError
    too where a process ends on its own: killed, or out of memory.
    """
    context = multiprocessing.get_context("spawn")
    pool: list[_Worker[Task]] = []
    waiting = iter(tasks)
    first = next(waiting, None)
    if first is None:
        return
    try:
        for _ in range(workers):
            if first is None:
                break
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, open_worker), daemon=True)
            process.start()
            theirs.close()
            pool.append(_Worker(process, ours))
            pool[-1].give(first)
            first = next(waiting, None)
        while any(worker.busy for worker in pool):
            for worker in _ready(pool):
                result: Result = _received(worker)
                worker.busy = False
                if first is not None:
                    worker.give(first)
                    first = next(waiting, None)
                yield result
    finally:
        _stop(pool)


def _ready(pool: list[_Worker[Task]]) -> list[_Worker[Task]]:
    by_connection = {worker.connection: worker for worker in pool if worker.busy}
    ready = multiprocessing.connection.wait(list(by_connection))
    return [worker for connection, worker in by_connection.items() if connection in ready]


def _received(worker: _Worker[Task]) -> Result:  # type: ignore[type-var]
    try:
        done, value = worker.connection.recv()
    except (EOFError, OSError) as error:
        worker.process.join(_STOP_S)
        code = worker.process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
        raise PrepareError(
            f"a worker process ended in the middle of its work ({how}); the system kills one when "
            "memory runs out. What is done is kept: run the same command with --resume, with fewer "
            "--workers if memory was short"
        ) from error
    if not done:
        raise PrepareError(value)
    return value  # type: ignore[no-any-return]


def _stop(pool: list[_Worker[Task]]) -> None:
    for worker in pool:
        worker.connection.close()
    for worker in pool:
        if worker.busy:
            worker.process.terminate()
    for worker in pool:
        worker.process.join(_STOP_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


def _serve(connection: Connection, open_worker: Callable[[], Callable[[Task], Result]]) -> None:
    # Ctrl-C reaches every process of the terminal; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    do: Callable[[Task], Result] | None = None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = connection.recv()
            try:
                do = do or open_worker()
                answer: tuple[bool, Result | str] = (True, do(task))
            except LimenError as error:
                answer = (False, str(error))
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                told = (
                    f"{where}cannot be written or read ({error.strerror or error}). What is done "
                    "is kept: free some space, then run the same command with --resume"
                )
                answer = (False, told)
            connection.send(answer)
