from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from towers.train.batches import grouped_by_length


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 5))
def test_a_pass_takes_each_item_once(count: int, batch_size: int, seed: int) -> None:
    """Each item is in one batch of a pass, no batch is larger than asked, and a second pass has another order."""
    lengths = np.random.default_rng(seed).integers(3, 40, count)
    of_pass = -(-count // batch_size)
    batches = grouped_by_length(lengths, batch_size=batch_size, steps=2 * of_pass, seed=seed)
    assert len(batches) == 2 * of_pass
    for half in (batches[:of_pass], batches[of_pass:]):
        assert sorted(np.concatenate(half).tolist()) == list(range(count))
    assert max(map(len, batches)) <= batch_size


def test_batches_hold_items_of_like_length() -> None:
    """Sorting pays: padding is far less than in batches drawn at random."""
    lengths = np.random.default_rng(0).integers(3, 60, 3200)
    batches = grouped_by_length(lengths, batch_size=32, steps=100, seed=1)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    at_random = sum(32 * int(part.max()) for part in lengths.reshape(100, 32))
    assert padded < 1.05 * lengths.sum()
    assert at_random > 1.5 * lengths.sum()


def test_more_steps_only_prolong_a_plan() -> None:
    """The first steps of a longer plan are the shorter plan."""
    lengths = np.arange(1, 100)
    short = grouped_by_length(lengths, batch_size=8, steps=5, seed=3)
    longer = grouped_by_length(lengths, batch_size=8, steps=40, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(short, longer, strict=False))
