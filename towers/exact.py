"""Exact search: every query against every title. Slow and right, the yardstick for every index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CELLS = 2**24  # cosines held at once: 64 MB


def nearest(
    queries: NDArray[np.float32],
    titles: NDArray[np.float32],
    k: int,
    *,
    hidden: Sequence[int | None],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k titles with the highest cosine for each query: best first, and in ties the earlier row.

    Args:
        queries: (q, dim), rows of length 1.
        titles: (n, dim), rows of length 1.
        k: At most n.
        hidden: q rows that get the cosine -inf for their query; None hides nothing.

    Returns:
        Cosines (q, k) and rows, int64 (q, k).
    """
    found: list[NDArray[np.int64]] = []
    values: list[NDArray[np.float32]] = []
    step = max(1, _CELLS // len(titles))
    for start in range(0, len(queries), step):
        cosines = queries[start : start + step] @ titles.T
        for row, hide in enumerate(hidden[start : start + step]):
            if hide is not None:
                cosines[row, hide] = -np.inf
        rows = np.sort(np.argpartition(-cosines, k - 1, axis=1)[:, :k], axis=1)
        best = np.take_along_axis(cosines, rows, axis=1)
        order = np.argsort(-best, axis=1, kind="stable")
        found.append(np.take_along_axis(rows, order, axis=1))
        values.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(values), np.concatenate(found)
