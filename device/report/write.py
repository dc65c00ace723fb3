"""A report into a file; its suffix says which kind."""

from __future__ import annotations

from pathlib import Path

from limen.device.report.findings import Findings
from limen.errors import ConfigError
from limen.files import write_atomically

KINDS = (".html", ".png", ".pdf")


def check_kind(path: Path) -> None:
    """ConfigError for a file that is none of HTML, PNG and PDF, before any work is done."""
    if path.suffix.lower() not in KINDS:
        raise ConfigError(
            f"{path}: expected a file that ends with {', '.join(KINDS)}, found '{path.suffix}'"
        )
    if path.is_dir():
        raise ConfigError(f"{path}: this is a folder; name a file in it")


def write_report(path: Path, found: Findings) -> None:
    """Write it whole or not at all; only its owner may read one that names people.

    ConfigError as `check_kind`, and where the file cannot be written; ImportError for a picture
    without matplotlib.
    """
    check_kind(path)
    if path.suffix.lower() == ".html":
        from limen.device.report.page import render

        content = render(found).encode()
    else:
        from limen.device.report.picture import render_picture

        content = render_picture(found, path.suffix.lower().removeprefix("."))
    try:
        with write_atomically(path, 0o600 if found.named else 0o644) as file:
            file.write(content)
    except OSError as error:
        raise ConfigError(f"{path}: the report cannot be written ({error.strerror})") from error
