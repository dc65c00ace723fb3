"""The folder of a run: what lies in it, and that one process at a time writes to it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from limen.errors import LimenError

LAST, BEST, LOG, RECIPE, TENSORBOARD = (
    "last.pt",
    "best.pt",
    "log.jsonl",
    "recipe.json",
    "tensorboard",
)
_LOCK = ".lock"


class RunFolderError(LimenError, OSError):
    """A run's folder cannot be written to."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make `folder` where needed, and hold it for this process while the block runs.

    What a killed run left half-written is removed. RunFolderError where another process holds
    it, or where it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunFolderError(
            f"{folder}: cannot be written to ({error.strerror}); name another --out"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise RunFolderError(
                f"{folder}: another run is writing there; wait for it, or name another --out"
            ) from error
        remove_leftovers(folder)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> int:
    """Remove the hidden halves that killed writers left in `folder`; how many there were."""
    leftovers = [path for name in (LAST, BEST, RECIPE, LOG) for path in folder.glob(f".{name}.*")]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
