"""Every error that limen raises on purpose. Leaves are builtins too, so `except ValueError` works.

A message says what was expected, what was found and what to do. None carries a name, a template
or a picture.
"""

from __future__ import annotations


class LimenError(Exception):
    """The root of limen's errors. The command line turns each into one sentence and exit code 2."""


class PictureError(LimenError, ValueError):
    """A file or array is not a picture that can be used."""


class NoFaceError(LimenError, LookupError):
    """No face that can be used was found: a failure to acquire."""


class BundleError(LimenError, ValueError):
    """A bundle is cut short, edited, of another schema, or lacks what was asked for."""


class UntrustedBundleError(BundleError):
    """A bundle is whole, but not one that this board was told to trust, or an older one."""


class KeyFileError(LimenError, ValueError):
    """A key's file cannot be read, written or used."""


class ModelMismatchError(LimenError, ValueError):
    """Templates, gallery or operating point belong to another model."""


class GalleryError(LimenError, ValueError):
    """A gallery cannot be opened, read or written."""


class SubjectNotFoundError(GalleryError, LookupError):
    """Nobody is enrolled under that subject id."""


class RuntimeUnavailableError(LimenError, ImportError):
    """An inference runtime or another optional package is not installed."""


class CalibrationError(LimenError, ValueError):
    """The scores cannot carry what was asked of them."""


class ConfigError(LimenError, ValueError):
    """A configuration file or option is wrong."""


class SourceError(LimenError, OSError):
    """A camera, stream, file or folder gives no frames."""


class LockError(LimenError, OSError):
    """The lock cannot be driven."""
