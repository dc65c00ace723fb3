"""Named arrays in a bundle's part: NumPy's .npz, uncompressed, read without trusting it.

`numpy.load` would allocate what a header announces and inflate what is compressed. Here nothing
is allocated that is not there: an array is a view of the part's own bytes.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limen.errors import BundleError

MAX_ARRAYS = 64
MAX_DIMENSIONS = 4
MAX_HEADER_BYTES = 1024
_KINDS = "biuf"  # booleans, integers, floats: never objects


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as .npz, in the mapping's order; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.ascontiguousarray(array), (1, 0), False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            archive.writestr(info, entry.getvalue())
    return buffer.getvalue()


def unpack_arrays(content: bytes | memoryview, what: str) -> dict[str, NDArray[Any]]:
    """Read what `pack_arrays` or `numpy.savez` wrote. BundleError where it is anything else.

    what: for messages, such as 'the cohort'. The arrays are read-only.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_ARRAYS:
                raise ValueError(f"{len(infos)} arrays are more than {MAX_ARRAYS}")
            if sum(info.file_size for info in infos) > len(content):
                raise ValueError("its arrays are larger than the part")
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise ValueError("its arrays are compressed")
            return {
                info.filename.removesuffix(".npy"): _array(archive.read(info)) for info in infos
            }
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"{what} cannot be read ({ascii(str(error))[1:-1][:120]}); copy the bundle again"
        ) from error
    except (NotImplementedError, RuntimeError, SyntaxError, TypeError, OverflowError) as error:
        raise BundleError(f"{what} cannot be read; copy the bundle again") from error


def _array(entry: bytes) -> NDArray[Any]:
    file = io.BytesIO(entry)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array of another format version")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(
        file, max_header_size=MAX_HEADER_BYTES
    )
    if dtype.kind not in _KINDS or dtype.hasobject or len(shape) > MAX_DIMENSIONS:
        raise ValueError("an array of another kind")
    if by_columns and len(shape) > 1:
        raise ValueError("an array stored by columns")
    values = np.frombuffer(entry, np.uint8, offset=file.tell())
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError("an array that is not as long as it says")
    return values.view(dtype).reshape(shape) if len(values) else np.empty(shape, dtype)
