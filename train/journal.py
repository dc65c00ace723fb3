"""What a run writes down as it goes: one JSON object a line, and TensorBoard's curves."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from limen.files import write_atomically
from limen.train.run_folder import LOG, TENSORBOARD, RunFolderError

log = logging.getLogger(__name__)


class Journal:
    """Writes `log.jsonl` and, where tensorboard is installed, `tensorboard/` in a run's folder.

    A resumed run passes the step that it goes on from; rows behind it, of steps that a killed run
    took and that are now taken again, are dropped. RunFolderError where the disk is full.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / LOG
        try:
            _drop_rows_behind(self._path, step)
        except OSError as error:
            raise _not_written(self._path, error) from error
        self._board = _summary_writer(folder / TENSORBOARD, step)

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row. `row["step"]` is its place on TensorBoard's axis; text stays out of there."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dict(row)) + "\n")
            if self._board is not None:
                for name, value in row.items():
                    if name != "step" and isinstance(value, int | float):
                        self._board.add_scalar(name, value, row["step"])
        except OSError as error:
            raise _not_written(self._path, error) from error

    def close(self) -> None:
        """Write out what is buffered. Closing twice is harmless."""
        board, self._board = self._board, None
        if board is not None:
            with contextlib.suppress(OSError):  # a full disk has been told by `write`
                board.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _drop_rows_behind(path: Path, step: int) -> None:
    if not path.exists():
        return
    lines = path.read_text("utf-8", errors="replace").splitlines()
    kept = [line for line in lines if 0 <= _step_of(line) <= step]
    if len(kept) < len(lines):
        with write_atomically(path) as file:
            file.write("".join(f"{line}\n" for line in kept).encode())


def _step_of(line: str) -> int:
    """The step of a row; -1 where a killed run left half of one."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning(
            "tensorboard is not installed, so the run's figures go to %s only; "
            "pip install tensorboard adds the curves",
            LOG,
        )
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


def _not_written(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{path}: the log cannot be written ({error.strerror}); free some space and go on from "
        "the last checkpoint with --resume"
    )
