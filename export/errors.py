"""What can go wrong in an export, and the packages that it needs beyond those of a board."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

from limen.errors import LimenError, RuntimeUnavailableError


class ExportError(LimenError, ValueError):
    """A checkpoint cannot be exported, or a graph does not do what the checkpoint does."""


@contextlib.contextmanager
def converting(what: str) -> Iterator[None]:
    """Run a converter: its chatter is dropped, its failures become one sentence about `what`.

    RuntimeUnavailableError where a package is missing, ExportError for anything else that the
    converter raises. Python's stdout and stderr are swapped meanwhile, for the whole process.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        missing = error.name or "a package"
        raise RuntimeUnavailableError(
            f"{what} needs {missing}, which is not installed: pip install 'limen[export]'"
        ) from error
    except LimenError:
        raise
    except Exception as error:  # converters raise whatever their parts raise
        first_line = (str(error).strip() or "no message").splitlines()[0][:200]
        raise ExportError(
            f"{what} could not be made ({type(error).__name__}: {first_line}); "
            "check the versions that pip install 'limen[export]' gives"
        ) from error
    finally:
        logging.disable(disabled)
