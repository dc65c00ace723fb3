"""glibc's allocator gives large blocks back to the kernel at once; training wants them kept.

Every step allocates and frees the same large activations. With glibc's defaults the kernel maps
and unmaps them each time, which took up to half of a small network's training time on two cores
(docs/training.md).
"""

from __future__ import annotations

import os
import platform
import sys

_SETTINGS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "500000000",
}


def restart_with_fast_allocator() -> None:
    """Run this process again with memory kept, once, where glibc is the allocator.

    Left alone: other systems, a preloaded allocator (tcmalloc does as well or better), and a user
    who set any of the variables.
    """
    if platform.libc_ver()[0] != "glibc" or os.environ.get("LD_PRELOAD"):
        return
    if any(name in os.environ for name in _SETTINGS):
        return
    os.environ.update(_SETTINGS)
    arguments = [sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, arguments)
