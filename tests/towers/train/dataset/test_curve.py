from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.errors import InputError
from towers.labelled import Pairs, Texts
from towers.train.data import make_pair_set, split_pairs
from towers.train.dataset.curve import (
    learning_curve,
    nested_pairs,
    nested_parts,
    nested_shares,
    nested_splits,
    nested_texts,
)

SHARES = (0.1, 0.25, 0.5, 1.0)


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=80), st.integers(0, 50))
def test_texts_are_nested_and_stratified(labels: list[int], seed: int) -> None:
    """A smaller share lies inside a larger; each label gives its share, to half a row, and at least one."""
    values = np.array(labels)
    parts = nested_texts(values, SHARES, seed=seed)
    for small, large in pairwise(parts):
        assert set(small) <= set(large)
    assert parts[-1].tolist() == list(range(len(labels)))
    for share, rows in zip(SHARES, parts, strict=True):
        for label in set(labels):
            wanted, found = share * (values == label).sum(), (values[rows] == label).sum()
            assert found >= 1
            assert abs(found - wanted) <= max(0.5, 1 - wanted)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=80), st.integers(0, 50))
def test_pairs_are_nested_by_whole_queries(queries: list[int], seed: int) -> None:
    """A query is in with all its pairs or not at all, and the last one drawn is what brings the share over the mark."""
    texts = [f"query {i}" for i in queries]
    parts = nested_pairs(texts, SHARES, seed=seed)
    largest = max(queries.count(i) for i in queries)
    for small, large in pairwise(parts):
        assert set(small) <= set(large)
    for share, rows in zip(SHARES, parts, strict=True):
        inside = {texts[i] for i in rows}
        assert rows.tolist() == [i for i, text in enumerate(texts) if text in inside]
        assert round(share * len(texts)) <= len(rows) < max(1, round(share * len(texts))) + largest


def test_the_seed_draws() -> None:
    """The same seed the same rows, another seed others."""
    labels = np.arange(200) % 2
    first, again, other = (nested_texts(labels, (0.1,), seed=seed)[0].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_a_curve_is_measured_from_small_to_large() -> None:
    """Each point knows its share and rows; the callable gets what belongs to them."""
    data = Texts([f"text {i}" for i in range(40)], np.arange(40) % 2)
    points = learning_curve(lambda texts: len(texts.texts) / 100, nested_parts(data, (1.0, 0.25), seed=0))
    assert [(p.share, p.rows, p.quality) for p in points] == [(0.25, 10, 0.1), (1.0, 40, 0.4)]
    assert [len(rows) for rows in nested_shares(data, seed=0)] == [4, 10, 20, 40]


def test_splits_lose_training_pairs_and_nothing_else() -> None:
    """Dev is the same at every point of the curve."""
    queries = [f"question {i // 3}" for i in range(120)]
    pairs = make_pair_set(
        Pairs(queries, [f"title {i}" for i in range(120)], np.arange(120) % 2 * 1.0), name="made up"
    )
    (split,) = split_pairs([pairs], dev_share=0.2, seed=0)
    for share, rows, part in nested_splits(pairs, split, seed=1):
        assert (part.dev == split.dev).all()
        assert not (part.train & ~split.train).any()
        assert rows == part.train.sum()
        assert abs(rows - share * split.train.sum()) <= 3
    assert len(nested_shares(pairs, (0.5,), seed=0)[0]) == 60


@pytest.mark.parametrize("shares", [(0.0,), (1.5,), ()])
def test_shares_outside_are_refused(shares: tuple[float, ...]) -> None:
    """A share is above 0 and up to 1."""
    with pytest.raises(InputError, match="found the shares"):
        nested_texts(np.array([1]), shares, seed=0)
    with pytest.raises(InputError, match="no rows"):
        nested_pairs([], (0.5,), seed=0)
