"""Packages that only some verbs need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from limen.errors import RuntimeUnavailableError


@contextmanager
def needs_extra(extra: str, *packages: str) -> Iterator[None]:
    """Turn a missing package of `packages` into an error that names the extra to install."""
    try:
        yield
    except ImportError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in packages:
            raise
        raise RuntimeUnavailableError(
            f"this needs {missing}, which is not installed: pip install 'limen[{extra}]'"
        ) from error
