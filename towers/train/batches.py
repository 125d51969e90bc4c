"""Batches of texts of like length, planned before training: little padding, and a resumed run sees the same ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SORTED_TOGETHER = 50  # batches; as in transformers' LengthGroupedSampler


def grouped_by_length(
    lengths: NDArray[np.int64], *, batch_size: int, steps: int, seed: int
) -> list[NDArray[np.int64]]:
    """Plan `steps` batches.

    Each pass draws a new order, sorts every 50 batches of it by length, cuts them up, and shuffles the batches.

    Args:
        lengths: (n,) tokens of each item.
        batch_size: Items of a batch; the last one of a pass may have less.
        steps: How many batches.
        seed: Of the order.

    Returns:
        int64 (batch_size,) item numbers of each batch.
    """
    rng = np.random.default_rng(seed)
    batches: list[NDArray[np.int64]] = []
    while len(batches) < steps:
        of_pass = _one_pass(rng.permutation(len(lengths)), lengths, batch_size)
        batches += [of_pass[i] for i in rng.permutation(len(of_pass))]
    return batches[:steps]


def _one_pass(
    order: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int
) -> list[NDArray[np.int64]]:
    parts = np.array_split(
        order, range(_SORTED_TOGETHER * batch_size, len(order), _SORTED_TOGETHER * batch_size)
    )
    by_length = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
    return np.array_split(by_length, range(batch_size, len(by_length), batch_size))
