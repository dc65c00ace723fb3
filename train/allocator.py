"""Memory that a step frees is wanted again at the next one: an allocator that keeps it.

Every step allocates and frees the same large activations. With glibc's defaults the kernel maps
and unmaps them each time, which took up to half of a small network's training time on two cores
(docs/training.md).
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import sys
from collections.abc import Callable, Mapping

# glibc told to keep what is freed; it does nearly as well as tcmalloc.
_GLIBC_SETTINGS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "500000000",
}
# tcmalloc tells of every large block on stderr unless the bound is out of reach.
_TCMALLOC_SETTINGS = {"TCMALLOC_LARGE_ALLOC_REPORT_THRESHOLD": "1000000000000"}


def restart_with_fast_allocator() -> None:
    """Run this process again with memory kept, once, where glibc is the allocator.

    tcmalloc is preloaded where the system has it (Debian: libtcmalloc-minimal4), else glibc is
    told to keep its memory. Left alone: other systems, a preloaded allocator, and a user who set
    any of glibc's variables.
    """
    added = allocator_settings(os.environ)
    if not added:
        return
    os.environ.update(added)
    arguments = [sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, arguments)


def allocator_settings(
    environment: Mapping[str, str],
    find_library: Callable[[str], str | None] = ctypes.util.find_library,
) -> dict[str, str]:
    """What to add to `environment` for a fast allocator; nothing where it is to be left alone."""
    if platform.libc_ver()[0] != "glibc" or environment.get("LD_PRELOAD"):
        return {}
    if any(name in environment for name in _GLIBC_SETTINGS):
        return {}
    tcmalloc = find_library("tcmalloc_minimal")
    if tcmalloc is None:
        return _GLIBC_SETTINGS
    return {"LD_PRELOAD": tcmalloc, **_TCMALLOC_SETTINGS}
