"""Files of weights that survive a pulled plug: written beside, synchronised, then renamed over."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from limen.errors import LimenError
from limen.files import write_atomically


class CheckpointError(LimenError, ValueError):
    """A checkpoint cannot be read, or belongs to another recipe."""


class CheckpointWriteError(LimenError, OSError):
    """A checkpoint cannot be written, as on a full disk. The one before it is whole."""


def write_content(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content`, of the step content["step"]; after an interruption `path` holds the old one
    or the new one, whole.

    CheckpointWriteError where it cannot be written.
    """
    # In memory first: torch.save hides what the file system said behind an error of its own.
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    try:
        with write_atomically(path) as file:
            file.write(buffer.getbuffer())
    except OSError as error:
        kept = "the one before it is whole" if path.exists() else "there is none before it"
        raise CheckpointWriteError(
            f"{path}: the checkpoint of step {content['step']} cannot be written "
            f"({error.strerror}); {kept}. Free some space, then go on with --resume"
        ) from error


@contextmanager
def read_content(
    path: Path, what: str, schema_version: int, kind: str | None = None
) -> Iterator[dict[str, Any]]:
    """Read what `write_content` wrote, without running any code in it.

    what: as a message names it. kind: what content["kind"] must be; an embedder's has none.
    CheckpointError where it is not one, also where the body of the `with` cannot make use of it.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(content, dict) and content.get("kind") != kind:
            raise CheckpointError(
                f"{path}: expected a {what}, found another kind of file: name one that 'limen train' "
                "wrote with a recipe of that kind"
            )
        version = content["schema_version"]
        if version != schema_version:
            raise CheckpointError(
                f"{path}: {what}, schema {version}, this limen reads {schema_version}"
            )
        yield content
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no checkpoint there") from error
    except Exception as error:  # torch.load raises whatever a damaged file provokes
        raise CheckpointError(f"{path}: not a whole {what} ({type(error).__name__})") from error
