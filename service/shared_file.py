"""Files that the processes of one machine map, to share what stands in them."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path


def mapped(path: Path, size: int) -> tuple[int, mmap.mmap]:
    """Open a file of `size` bytes, make it of zeros where it is not there, and map it: its descriptor and its bytes.

    Raises:
        OSError: There is no room for it.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "linux":
            os.posix_fallocate(file, 0, size)  # a full disk is found now, and not by a signal later
        else:
            os.ftruncate(file, size)
        return file, mmap.mmap(file, size)
    except BaseException:
        os.close(file)
        raise
