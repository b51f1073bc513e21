"""What happens to freed memory: it is kept, which is fast, or given back."""

from __future__ import annotations

import ctypes
import gc
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_MOST = 2**31 - 1
_OFTEN = 700, 10, 10
"""Thresholds of Python's garbage collector, as they are by default up to Python 3.12; `nevus.__main__` raises them."""
_FIRST = 128 * 1024
"""glibc's own first threshold in bytes, which it raises automatically unless it is set."""


def retain_heap() -> bool:
    """Let the C library keep freed memory for the next tensor, instead of giving it back to the system.

    glibc returns every block of 32 MB or more, and the top of its heap, at once, and the system clears the
    pages again for the next one: at each training step. With this, resident memory stays at its peak for as
    long as the process lives. It says nothing about other C libraries, where it does nothing.

    Returns:
        Whether the library took it.

    """
    return _set_thresholds(_MOST)


def return_memory() -> bool:
    """Let the C library give back every freed block of 128 KiB or more at once, instead of keeping it.

    glibc raises this threshold to the largest block that was freed, up to 32 MB, and then keeps such blocks: a
    service with several threads holds 45 MB more after its first requests, `nevus predict` 30 MB at its peak. Python
    also collects garbage more often.

    Returns:
        Whether the library took it.

    """
    gc.set_threshold(*_OFTEN)
    return _set_thresholds(_FIRST)


def _set_thresholds(size: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    return bool(mallopt(_MMAP_THRESHOLD, size)) and bool(mallopt(_TRIM_THRESHOLD, size))
