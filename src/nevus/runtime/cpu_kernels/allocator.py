"""Memory that the process keeps."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_MOST = 2**31 - 1


@lru_cache(maxsize=1)
def retain_heap() -> bool:
    """Let the C library keep freed memory for the next tensor, instead of giving it back to the system.

    glibc returns every block of 32 MB or more, and the top of its heap, at once, and the system clears the
    pages again for the next one: at each training step. With this, resident memory stays at its peak for as
    long as the process lives. It says nothing about other C libraries, where it does nothing.

    Returns:
        Whether the library took it.

    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MOST)) and bool(mallopt(_TRIM_THRESHOLD, _MOST))
