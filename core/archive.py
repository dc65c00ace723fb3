"""The archive that a bundle is: a zip in one canonical form, read without trusting any of it.

Any unzip program opens a bundle, but limen reads only what its own sealing writes: parts one after
the other from the first byte, stored, without extra fields, comments, gaps or overlaps, each
described twice in the same words. So no two readers can see two different bundles in one file, and
nothing can swell (docs/adr/0022-canonical-archive.md). Layout: PKWARE APPNOTE 6.3, 4.3.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from limen.errors import BundleError

MAX_PARTS = 64
PART_NAME = r"^[a-z0-9][a-z0-9._-]{0,99}$"

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip archive can tell
_PLAIN_FILE = 0o100644 << 16
_UNIX = 3
_STORED = 0
_LOCAL, _CENTRAL, _END = (
    struct.Struct("<IHHHHHIIIHH"),
    struct.Struct("<IHHHHHHIIIHHHHHII"),
    struct.Struct("<IHHHHIIH"),
)
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = 0x04034B50, 0x02014B50, 0x06054B50
_FOLDER_BIT = 0x10  # MS-DOS
_NAME = re.compile(PART_NAME)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One part as the archive's directory describes it. Sizes and positions in bytes."""

    name: str
    crc: int
    size: int
    offset: int


def read_archive(content: bytes, name: str) -> dict[str, memoryview]:
    """Return the parts of a bundle's bytes by name, in their order, as views that copy nothing.

    name: for messages. BundleError where the archive is not in the canonical form: cut short,
    compressed, encrypted, with a part twice, a link, a path, a gap or an overlap.
    """
    view = memoryview(content)
    entries, directory_at = _directory(view, name)
    parts: dict[str, memoryview] = {}
    position = 0
    for entry in entries:
        if entry.name in parts:
            raise BundleError(f"{name}: part '{entry.name}' is there twice")
        if entry.offset != position:
            raise _not_whole(name, "its parts do not follow each other")
        start = _local_end(view, entry, directory_at, name)
        position = start + entry.size
        if position > directory_at:
            raise _not_whole(name, f"part '{entry.name}' reaches beyond its end")
        parts[entry.name] = view[start:position]
        if zlib.crc32(parts[entry.name]) != entry.crc:
            raise _not_whole(name, f"part '{entry.name}' fails its checksum: it was changed")
    if position != directory_at:
        raise _not_whole(name, "there is something between its parts")
    return parts


def write_archive(parts: Sequence[tuple[str, bytes]]) -> bytes:
    """The canonical archive of named parts, in their order: the same bytes on any machine."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for part, content in parts:
            info = zipfile.ZipInfo(part, date_time=_EPOCH)
            info.create_system = _UNIX
            info.external_attr = _PLAIN_FILE
            archive.writestr(info, content)
    return buffer.getvalue()


def _directory(view: memoryview, name: str) -> tuple[list[_Entry], int]:
    """The described parts, and where their directory begins."""
    if len(view) < _END.size:
        raise _not_whole(name, "it is too short")
    end_at = len(view) - _END.size
    mark, disk, first_disk, here, total, size, start, comment = _END.unpack_from(view, end_at)
    if mark != _END_MARK or comment != 0:
        raise _not_whole(name, "its end is missing, or something follows it")
    if disk or first_disk or here != total or start + size != end_at:
        raise _not_whole(name, "its directory is not where it says")
    if total > MAX_PARTS:
        raise BundleError(f"{name}: {total} parts are more than {MAX_PARTS}; not a bundle")
    entries, position = [], start
    for _ in range(total):
        entry, position = _entry(view, position, end_at, name)
        entries.append(entry)
    if position != end_at:
        raise _not_whole(name, "its directory is longer than its parts")
    return entries, start


def _entry(view: memoryview, position: int, end_at: int, name: str) -> tuple[_Entry, int]:
    if position + _CENTRAL.size > end_at:
        raise _not_whole(name, "its directory is cut")
    fields = _CENTRAL.unpack_from(view, position)
    mark, _made_by, _needs, flags, method, _time, _date, crc, packed, size = fields[:10]
    name_size, extra, comment, disk, _kind, attributes, offset = fields[10:]
    name_at = position + _CENTRAL.size
    if mark != _CENTRAL_MARK or name_at + name_size > end_at:
        raise _not_whole(name, "its directory is damaged")
    part = _checked_name(bytes(view[name_at : name_at + name_size]), name)
    if method != _STORED or packed != size:
        raise BundleError(f"{name}: part '{part}' is compressed; parts are stored")
    if flags:
        raise BundleError(f"{name}: part '{part}' is encrypted or streamed; parts are plain")
    if extra or comment or disk:
        raise BundleError(f"{name}: part '{part}' carries fields that a bundle has no use for")
    kind = stat.S_IFMT(attributes >> 16)
    if kind not in (0, stat.S_IFREG) or attributes & _FOLDER_BIT:
        raise BundleError(f"{name}: part '{part}' is a link or a folder; parts are plain files")
    return _Entry(part, crc, size, offset), name_at + name_size


def _local_end(view: memoryview, entry: _Entry, directory_at: int, name: str) -> int:
    """Where the part's own bytes begin. What stands before them must repeat the directory."""
    if entry.offset + _LOCAL.size > directory_at:
        raise _not_whole(name, f"part '{entry.name}' lies beyond its end")
    mark, _needs, flags, method, _time, _date, crc, packed, size, name_size, extra = (
        _LOCAL.unpack_from(view, entry.offset)
    )
    start: int = entry.offset + _LOCAL.size
    if start + name_size > directory_at:
        raise _not_whole(name, f"part '{entry.name}' lies beyond its end")
    said = (mark, flags, method, crc, packed, size, extra)
    if said != (_LOCAL_MARK, 0, _STORED, entry.crc, entry.size, entry.size, 0):
        raise _not_whole(name, f"part '{entry.name}' is described twice, differently")
    if bytes(view[start : start + name_size]) != entry.name.encode("ascii"):
        raise _not_whole(name, f"part '{entry.name}' has two names")
    return start + int(name_size)


def _checked_name(raw: bytes, name: str) -> str:
    text = raw[:100].decode("ascii", "replace")
    if len(raw) > 100 or not _NAME.fullmatch(text):
        raise BundleError(
            f"{name}: a part is called {text!a}, which is no part's name: expected small "
            "letters, digits, '.', '_' and '-', without a folder"
        )
    return text


def _not_whole(name: str, why: str) -> BundleError:
    return BundleError(f"{name}: not a whole bundle ({why}); copy it again from where it was made")
