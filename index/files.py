"""Writing files so that a kill at any moment leaves either the old file, the new file or nothing."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from towers.errors import ReleaseError

TEMPORARY = ".partial"


@contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; when the block ends well, it becomes `path` in one step.

    After a loss of power the file may be absent again, but never half: whoever relies on its presence syncs the
    directory, too.

    Yields:
        A path in the same directory, so that the rename is atomic.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    yield temporary
    sync(temporary)
    os.replace(temporary, path)


def sync(path: Path) -> None:
    """Make the contents of a file, or the names in a directory, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that is the same bytes for the same value."""
    with finished_file(path) as temporary:
        temporary.write_text(json_text(value), encoding="utf-8")


def json_text(value: Any) -> str:
    """JSON for people and hashes: sorted keys, two spaces, one newline at the end."""
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file that `np.load(mmap_mode="r")` can map."""
    with finished_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def exclusive(path: Path, *, busy: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock that the kernel drops when this process dies, however it dies.

    Args:
        path: the lock file; it holds the process id while it is held, and stays behind, empty.
        busy: what to tell the person when another process holds the lock.
        wait: wait for the other process instead of refusing.

    Raises:
        ReleaseError: another process holds the lock and `wait` is false.
    """
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as exc:
            raise ReleaseError(f"{busy} (process {_holder(file)})") from exc
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "unknown"
