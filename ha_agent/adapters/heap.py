"""Keeps the process small: glibc's allocator by default keeps an arena a thread and returns little (mallopt(3))."""

from __future__ import annotations

import contextlib
import ctypes
import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8

LARGE_BYTES = 64 * 1024
"""Blocks of this size and above are mapped by themselves, so that a list of processes goes when it is freed."""


def limit_heap() -> None:
    """One arena for all threads, large blocks mapped. To be called before threads exist. Does nothing without glibc."""
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        for option, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGE_BYTES), (M_TRIM_THRESHOLD, LARGE_BYTES)):
            libc.mallopt(option, value)


def trim_heap() -> None:
    """Returns freed memory to the system. Takes some milliseconds: for quiet moments."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
