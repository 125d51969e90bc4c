"""Query vectors that the processes of one machine share: a file that each of them maps, and no locks.

A vector's place follows from the query's SHA-256: it may stand in any of a few neighbouring slots, and displaces what
it finds where all are taken. Two processes may write the same slot at the same time; what is read then does not fit its
checksum and counts as missing.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np

from service.shared_file import mapped

NEIGHBOURS = 8
DIGEST = 32
CHECK = 4


class QueryTable:
    """Vectors by query id.

    Args:
        path: The file, which is made when it is not there.
        size: How many vectors there is room for.
        dim: The length of a vector.

    Raises:
        OSError: There is no room for it.
    """

    def __init__(self, path: Path, *, size: int, dim: int) -> None:
        self._slot, self._groups = _layout(size, dim)
        file, self._bytes = mapped(path, table_bytes(size, dim))
        os.close(file)

    def get(self, query_id: str) -> np.ndarray | None:
        """The vector (dim,) under an id, or None."""
        digest = bytes.fromhex(query_id)
        for start in self._places(digest):
            if self._bytes[start : start + DIGEST] == digest:
                vector = self._read(start, digest)
                if vector is not None:
                    return vector
        return None

    def put(self, query_id: str, vector: np.ndarray) -> None:
        """Keep a vector (dim,)."""
        digest = bytes.fromhex(query_id)
        places = self._places(digest)
        free = (p for p in places if self._bytes[p : p + DIGEST] in (digest, bytes(DIGEST)))
        # Which of its neighbours a query displaces is as good as chance.
        start = next(free, places[digest[-1] % NEIGHBOURS])
        data = np.ascontiguousarray(vector, np.float32).tobytes()
        self._bytes[start : start + self._slot] = digest + _check(digest, data) + data

    def _places(self, digest: bytes) -> list[int]:
        first = int.from_bytes(digest[:8], "big") % self._groups * NEIGHBOURS
        return [(first + i) * self._slot for i in range(NEIGHBOURS)]

    def _read(self, start: int, digest: bytes) -> np.ndarray | None:
        check = self._bytes[start + DIGEST : start + DIGEST + CHECK]
        data = self._bytes[start + DIGEST + CHECK : start + self._slot]
        return np.frombuffer(data, np.float32).copy() if check == _check(digest, data) else None


def table_bytes(size: int, dim: int) -> int:
    """How large a table's file is."""
    slot, groups = _layout(size, dim)
    return groups * NEIGHBOURS * slot


def _layout(size: int, dim: int) -> tuple[int, int]:
    return DIGEST + CHECK + 4 * dim, max(1, -(-size // NEIGHBOURS))


def _check(digest: bytes, data: bytes) -> bytes:
    return zlib.crc32(data, zlib.crc32(digest)).to_bytes(CHECK, "big")
