from __future__ import annotations

import numpy as np

from towers.train.bilingual.parallel import aligned


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def planted(seed: int, *, rows: int = 300, dim: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of some rows, their vectors, and those of their translations: the same with some noise."""
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(rows, dim)))
    labels = rng.integers(0, 6, rows).astype(np.float32) / 5
    return labels, vectors, unit(vectors + 0.1 * rng.normal(size=vectors.shape))


def test_planted_pairs_are_found_where_rows_are_missing_on_both_sides() -> None:
    """Each side lost rows of its own: all pairs of which both rows are left are found, and no others."""
    labels, vectors, others = planted(1)
    rng = np.random.default_rng(2)
    left, right = (np.sort(rng.permutation(len(labels))[:240]) for _ in range(2))
    found = aligned(labels[left], vectors[left], labels[right], others[right])
    assert [(left[a], right[b]) for a, b in found] == [(row, row) for row in np.intersect1d(left, right)]


def test_two_rows_with_other_labels_are_no_pair() -> None:
    """However similar they are; labels may differ by rounding."""
    labels, vectors, others = planted(3, rows=4)
    moved = labels + np.array([0, 1e-7, 0.2, 0], np.float32)
    assert aligned(labels, vectors, moved, others) == [(0, 0), (1, 1), (3, 3)]


def test_what_is_not_sure_is_left_out() -> None:
    """A row without a similar one, and a row whose most similar one has a better match."""
    first = unit(np.array([[1, 0, 0], [0.9, 0.3, 0], [0, 0, 1]], float))
    second = unit(np.array([[1, 0.02, 0], [0, 1, 0.3]], float))
    same, other = np.zeros(3, np.float32), np.zeros(2, np.float32)
    assert aligned(same, first, other, second) == [(0, 0)]


def test_a_translation_is_looked_for_nearby() -> None:
    """The same vector at the other end of a long set is no translation of it: repeated sentences stay apart."""
    labels, vectors, others = planted(4, rows=1000)
    others[0] = unit(np.ones((1, 128)))[0]
    others[999] = vectors[0]
    found = aligned(labels * 0, vectors, labels * 0, others)
    assert 0 not in dict(found)
    assert (1, 1) in found


def test_a_side_without_rows_has_no_pairs() -> None:
    labels, vectors, _ = planted(5, rows=3)
    assert aligned(labels, vectors, labels[:0], vectors[:0]) == []
    assert aligned(labels[:0], vectors[:0], labels, vectors) == []
