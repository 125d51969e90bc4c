"""Telling the C library to keep freed memory, because a request's arrays are as large as the last one's."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3), from glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3

KEPT = 64 * 2**20  # bytes: some requests' worth of arrays; a match of 1,000 titles uses 1.5 MB at a time
LARGEST = 32 * 2**20  # bytes: the most that glibc accepts as the size from which on memory is mapped afresh


def keep_freed_memory() -> bool:
    """Have `malloc` hand out freed memory again instead of returning it to the kernel.

    By default each array of more than 128 kB is mapped afresh, and its first touch faults in every page: a match of
    1,000 titles spends half of its processor time there (8.5 ms, 4.5 ms after this call).

    Returns:
        False where the C library has no such setting, for example musl.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, KEPT))
