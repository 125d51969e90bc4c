"""Finding the translation of each row of a translated set, where both sides have lost rows of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WINDOW = 400  # rows between the places of a row and of its translation, at most
_SURE = 0.5  # cosine of a translation, at least: true ones have 0.8 in the median before training


def aligned(
    labels: NDArray[np.float32],
    vectors: NDArray[np.float32],
    others: NDArray[np.float32],
    found: NDArray[np.float32],
) -> list[tuple[int, int]]:
    """Return which rows of two sets are translations of each other.

    Two rows are, when their labels are equal, each is the other's most similar row nearby, and they are similar at all.

    Args:
        labels: (n,) of the first set.
        vectors: (n, dim) of length 1.
        others: (m,) labels of the second set.
        found: (m, dim) of length 1.
    """
    best = _best(labels, vectors, others, found)
    back = _best(others, found, labels, vectors)
    return [
        (row, other)
        for row, (other, cosine) in enumerate(best)
        if other >= 0 and back[other][0] == row and cosine >= _SURE
    ]


def _best(
    labels: NDArray[np.float32],
    vectors: NDArray[np.float32],
    others: NDArray[np.float32],
    found: NDArray[np.float32],
) -> Sequence[tuple[int, float]]:
    best: list[tuple[int, float]] = []
    for row in range(len(labels)):
        middle = row * len(others) // len(labels)
        near = np.arange(max(0, middle - _WINDOW), min(len(others), middle + _WINDOW))
        near = near[np.isclose(others[near], labels[row])]
        if not len(near):
            best.append((-1, -1.0))
            continue
        cosines = found[near] @ vectors[row]
        best.append((int(near[cosines.argmax()]), float(cosines.max())))
    return best
