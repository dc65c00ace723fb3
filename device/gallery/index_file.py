"""Where the cached index of a large gallery lies, and how it goes."""

from __future__ import annotations

from pathlib import Path

INDEX_SUFFIX = ".index"


def index_path(gallery: Path) -> Path:
    """The cached index beside a gallery."""
    return gallery.with_name(gallery.name + INDEX_SUFFIX)


def remove_index(gallery: Path) -> None:
    """Remove the cached index: it holds templates of whoever was in it."""
    index_path(gallery).unlink(missing_ok=True)
