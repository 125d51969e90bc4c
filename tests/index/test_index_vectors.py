from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from index.files import write_array
from index.vectors import ROWS_AT_ONCE, VECTORS_FILE, TitleVectors, best, cosines_of, unit_rows, widen


def test_widening_is_exact_for_every_finite_half() -> None:
    """Moving bits gives what numpy gives, for all 63,488 finite float16."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)]
    assert np.array_equal(widen(finite).view(np.uint32), finite.astype(np.float32).view(np.uint32))


@given(st.integers(0, 2**32 - 1))
def test_rows_have_length_one_and_do_not_depend_on_their_neighbours(seed: int) -> None:
    """Rounding to float16 is undone in length, and a permuted call gives permuted rows, bit for bit."""
    rng = np.random.default_rng(seed)
    halves = rng.standard_normal((9, 17)).astype(np.float16)
    rows = unit_rows(halves)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    order = rng.permutation(9)
    assert np.array_equal(unit_rows(halves[order]), rows[order])
    query = rows[0]
    assert np.array_equal(cosines_of(query, rows[order]), cosines_of(query, rows)[order])
    assert np.array_equal(cosines_of(query, rows[:1]), cosines_of(query, rows)[:1])


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.9]), max_size=60), st.integers(1, 12))
def test_best_is_a_sort_with_ties_by_row(cosines: list[float], k: int) -> None:
    """The k best are those of a full sort; equal ones come in the order of their rows."""
    rows = np.random.default_rng(len(cosines)).permutation(len(cosines)) * 3
    expected = sorted(zip(cosines, rows.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))[:k]
    found, found_rows = best(np.array(cosines, np.float32), rows.astype(np.int64), k)
    assert found_rows.tolist() == [row for _, row in expected]
    assert np.array_equal(found, np.array([cosine for cosine, _ in expected], np.float32))


def test_an_exact_search_goes_through_all_chunks(tmp_path: Path) -> None:
    """A search over more rows than fit in memory at once finds what a sort finds."""
    stored = np.random.default_rng(0).standard_normal((2 * ROWS_AT_ONCE + 5, 4)).astype(np.float16)
    write_array(tmp_path / VECTORS_FILE, stored)
    vectors = TitleVectors(tmp_path)
    query = unit_rows(np.ones((1, 4), np.float16))[0]
    cosines, rows = vectors.search(query, 7, rows=np.arange(vectors.count))
    everything = cosines_of(query, unit_rows(stored))
    order = np.lexsort((np.arange(vectors.count), -everything))[:7]
    assert rows.tolist() == order.tolist()
    assert np.array_equal(cosines, everything[order])
    assert sum(len(part) for _, part in vectors.chunks()) == vectors.count
