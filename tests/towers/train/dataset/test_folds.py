from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from towers.train.dataset.folds import text_folds

letters = st.sampled_from([*"abcdefghijklmnopqrst"])


@given(st.lists(st.tuples(letters, letters), min_size=4, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_no_text_is_on_both_sides(pairs: list[tuple[str, str]], count: int, seed: int) -> None:
    """Each row is in one fold at most, and none of a fold's texts is in what its model is trained on."""
    classes = np.arange(len(pairs)) % 2
    seen: list[int] = []
    for train, fold in text_folds(pairs, classes, count=count, seed=seed):
        held_out = {text for row in fold for text in pairs[row]}
        assert not any(held_out & set(pairs[row]) for row in train)
        seen += fold.tolist()
    assert sorted(seen) in (list(range(len(pairs))), [])


def test_a_title_that_connects_everything_does_not_stop_it() -> None:
    """Queries are then drawn one by one; rows of the popular title are judged by models that know nothing of it."""
    pairs = [(f"q{i}", "popular") for i in range(20)] + [(f"q{i}", f"t{i}") for i in range(20)]
    folds = text_folds(pairs, np.arange(40) % 2, count=4, seed=0)
    assert len(folds) == 4
    assert all(len(train) > 10 for train, _ in folds)
    assert sorted(row for _, fold in folds for row in fold) == list(range(40))


def test_one_group_gives_no_folds() -> None:
    """There is nothing to hold out when all rows are of one query."""
    assert text_folds([("q", "a"), ("q", "b")], np.array([0, 1]), count=5, seed=0) == []


def test_folds_are_stratified_and_seeded() -> None:
    """A rare class is spread; the same seed draws the same folds."""
    texts = [(f"text {i}",) for i in range(100)]
    classes = (np.arange(100) % 10 == 0).astype(np.int64)
    folds = text_folds(texts, classes, count=5, seed=3)
    assert [int(classes[fold].sum()) for _, fold in folds] == [2] * 5
    again = text_folds(texts, classes, count=5, seed=3)
    assert all((a[1] == b[1]).all() for a, b in zip(folds, again, strict=True))
