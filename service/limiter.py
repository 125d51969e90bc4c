"""How often each key may ask: a token bucket for each name, which the processes of one machine share."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.shared_file import mapped

_BUCKET = struct.Struct(
    "dd"
)  # tokens that are missing to a full bucket, and when that was; zeros: a full one


class Limiter:
    """Token buckets. A bucket holds `burst` tokens, gets `rate` of them a second, and a request takes one.

    To be used from one thread of a process. Names must come from a bounded set: their buckets are kept.

    Args:
        rate: Tokens a second.
        burst: Tokens of a full bucket.
        directory: Where the processes that share the buckets keep them; None: this process alone.
        now: Seconds that only grow, and are the same for all who share.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        *,
        directory: Path | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._burst, self._now, self._directory = rate, float(burst), now, directory
        self._buckets: dict[str, _Bucket] = {}

    def wait_s(self, name: str) -> float:
        """Take a token of `name`: 0.0 when there was one, else the seconds until there will be one."""
        if name not in self._buckets:
            self._buckets[name] = _Bucket(name, self._directory)
        with self._buckets[name].held() as content:
            now = self._now()
            missing, then = _BUCKET.unpack_from(content)
            left = min(self._burst, self._burst - missing + (now - then) * self._rate)
            taken = left >= 1
            _BUCKET.pack_into(content, 0, self._burst - left + taken, now)
        return 0.0 if taken else (1 - left) / self._rate


class _Bucket:
    """The numbers of one bucket, in a file that is mapped where several processes share it."""

    def __init__(self, name: str, directory: Path | None) -> None:
        self._file: int | None = None
        self._content: bytearray | mmap.mmap = bytearray(_BUCKET.size)
        if directory is not None:
            path = directory / f"limit-{hashlib.sha256(name.encode()).hexdigest()}"
            self._file, self._content = mapped(path, _BUCKET.size)

    @contextmanager
    def held(self) -> Iterator[bytearray | mmap.mmap]:
        """While the block lasts, nobody else changes them. The system lets go for a process that is killed."""
        if self._file is None:
            yield self._content
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield self._content
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
