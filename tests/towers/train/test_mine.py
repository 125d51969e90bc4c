from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.train.mine import hard_negatives, known_positives


def unit(rows: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def mine_slowly(queries, titles, cosines, known, count, share):
    """The stupid twin: look at every title of every query."""
    found = []
    for i, query in enumerate(queries):
        ceiling = cosines[i] - (1 - share) * abs(cosines[i])
        rows = [
            (-float(query @ t), j) for j, t in enumerate(titles) if j not in known[i] and query @ t < ceiling
        ]
        found.append([j for _, j in sorted(rows)[:count]])
    return found


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(0, 8), st.integers(1, 4))
def test_it_finds_what_looking_at_every_title_finds(seed: int, q: int, t: int, count: int) -> None:
    """The closest titles below the margin, known matches left out, best first."""
    rng = np.random.default_rng(seed)
    queries, titles = unit(q, seed), unit(t, seed + 1)
    cosines = rng.uniform(-1, 1, q).astype(np.float32)
    known = [np.flatnonzero(rng.random(t) < 0.3) for _ in range(q)]
    found = hard_negatives(
        queries, titles, positive_cosines=cosines, known=known, count=count, share_of_positive=0.9
    )
    slow = mine_slowly(queries, titles, cosines, known, count, 0.9)
    assert [rows.tolist() for rows in found] == slow


@pytest.mark.parametrize("positive", [0.9, 0.0, -0.5])
def test_a_title_as_close_as_the_match_is_left_alone(positive: float) -> None:
    """It may be a match that nobody labelled; the margin holds for cosines below 0 as well."""
    query = np.array([[1, 0]], np.float32)
    titles = np.array([[c, np.sqrt(1 - c * c)] for c in (positive, positive - 0.2)], np.float32)
    (rows,) = hard_negatives(
        query,
        titles,
        positive_cosines=np.array([positive], np.float32),
        known=[np.empty(0, np.int64)],
        count=2,
    )
    assert rows.tolist() == [1]


def test_matches_are_known_in_both_directions() -> None:
    """A pair's query is a match of its title; a text is always a match of itself; case makes no difference."""
    known = known_positives(["A", "a", "c"], ["b", "X", "B"], np.array([True, False, True]))
    assert known["a"] == {"a", "b"}
    assert known["b"] == {"a", "b", "c"}
    assert known["x"] == {"x"}
