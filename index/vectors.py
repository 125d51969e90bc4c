"""The title vectors of a release: float16 on disk, memory-mapped, and the truth that every score comes from.

`vectors.npy` is float16 (count, dim). Rounding to float16 moves a cosine by less than 0.0005 and halves the
memory. It also takes a row's length up to 0.0005 away from 1, so rows are made length 1 again when they are
read: everything that leaves this module is float32 and has length 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

VECTORS_FILE: Final = "vectors.npy"
ROWS_AT_ONCE: Final = 16_384  # 25 MB of float32 at 384 dimensions: the memory of a pass over all rows
# 3 MB: comparing all of 19,406 x 384 takes 12 ms in pieces of this size, 18 ms in pieces of 16,384.
_ROWS_IN_CACHE: Final = 2_048


def widen(halves: np.ndarray) -> np.ndarray:
    """Turn finite float16 into float32 by moving bits.

    Numpy does this one number at a time: 0.63 ms for 1,000 x 384, against 0.09 ms here, in a match request of
    10 ms. The exponent and mantissa go to where float32 has them, and the product with 2^112 corrects the
    exponent's offset (127 - 15), also for subnormal numbers.

    Args:
        halves: float16, any shape, contiguous, finite.

    Returns:
        float32, the same shape, equal to `halves.astype(np.float32)`.
    """
    bits = halves.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= np.int32(
        -0x70002000
    )  # the shift has copied the sign over the upper exponent: keep the sign bit only
    wide = bits.view(np.float32)
    wide *= np.float32(2.0**112)
    return wide


def unit_rows(halves: np.ndarray) -> np.ndarray:
    """Read stored rows.

    Each row's result depends on that row alone, not on its neighbours in the call, so a title has the same
    vector in a search, in a match and in Redis, bit for bit.

    Args:
        halves: float16 (n, dim), as stored.

    Returns:
        float32 (n, dim), rows of length 1.
    """
    rows = widen(halves)
    rows /= np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return rows


def cosines_of(query: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The inner product of the query with each row.

    By einsum, not by BLAS: BLAS sums a row differently depending on how many rows there are, and then equal
    titles would not have equal cosines.

    Args:
        query: float32 (dim,).
        vectors: float32 (n, dim).

    Returns:
        float32 (n,).
    """
    return np.asarray(np.einsum("ij,j->i", vectors, query))


def best(cosines: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best, best first, equal ones in the order of their rows.

    Args:
        cosines: float32 (n,).
        rows: int64 (n,).
        k: how many at most.
    """
    if len(cosines) > 4 * k:  # sorting all of 16,384 takes longer than comparing them
        enough = np.partition(cosines, len(cosines) - k)[len(cosines) - k]
        cosines, rows = cosines[cosines >= enough], rows[cosines >= enough]
    order = np.lexsort((rows, -cosines))[:k]
    return cosines[order], rows[order]


class TitleVectors:
    """Reads title vectors from the memory map; safe to use from many threads."""

    def __init__(self, directory: Path) -> None:
        self.stored = np.asarray(np.load(directory / VECTORS_FILE, mmap_mode="r", allow_pickle=False))

    @property
    def count(self) -> int:
        """The number of rows."""
        return int(self.stored.shape[0])

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self.stored.shape[1])

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of some rows.

        Args:
            rows: int (n,), in any order.

        Returns:
            float32 (n, dim), rows of length 1.
        """
        return unit_rows(self.stored[rows])

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All vectors, a bounded number of rows at a time.

        Yields:
            (first row, float32 (at most `ROWS_AT_ONCE`, dim)).
        """
        for start in range(0, self.count, ROWS_AT_ONCE):
            yield start, unit_rows(self.stored[start : start + ROWS_AT_ONCE])

    def search(self, query: np.ndarray, k: int, *, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compare the query with each of some rows, exactly.

        Args:
            query: float32 (dim,).
            k: how many at most.
            rows: int64 (n,), without duplicates.

        Returns:
            The k best: cosines float32 (m,), rows int64 (m,), best first.
        """
        cosines = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _ROWS_IN_CACHE):
            part = slice(start, start + _ROWS_IN_CACHE)
            cosines[part] = cosines_of(query, self.rows(rows[part]))
        return best(cosines, rows, k)
