"""Hard negatives: titles that a tower takes for matches of a query and that are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from towers.train.data import text_key

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

# An unlabelled title closer to the query than 95% of its positive's cosine is too often a match that nobody
# labelled (Moreira et al. 2024, "NV-Retriever", section 4: TopK-PercPos with 95%).
SHARE_OF_POSITIVE = 0.95
_CHUNK = 512  # queries whose cosines to all titles are in memory at once: 40 MB for 20,000 titles


def known_positives(
    queries: Sequence[str], titles: Sequence[str], positive: NDArray[np.bool_]
) -> dict[str, set[str]]:
    """Return, for each text, the texts that are known to match it, itself included.

    A match counts in both directions, as a query may occur among the titles.
    """
    known: dict[str, set[str]] = {}
    for query, title, matches in zip(queries, titles, positive, strict=True):
        a, b = text_key(query), text_key(title)
        known.setdefault(a, {a})
        known.setdefault(b, {b})
        if matches:
            known[a].add(b)
            known[b].add(a)
    return known


def hard_negatives(
    query_vectors: Floats,
    title_vectors: Floats,
    *,
    positive_cosines: Floats,
    known: Sequence[Rows],
    count: int = 1,
    share_of_positive: float = SHARE_OF_POSITIVE,
) -> list[Rows]:
    """For each query, the rows of the closest titles that are safe to call negative, best first.

    Args:
        query_vectors: (q, dim), rows of length 1.
        title_vectors: (t, dim), rows of length 1.
        positive_cosines: (q,) the cosine of each query's weakest known match.
        known: q arrays of rows of titles that match; they are never returned.
        count: At most this many rows for a query; fewer where there are not enough.
        share_of_positive: A title must stay below this share of the positive's cosine.

    Returns:
        q arrays of rows, int64.
    """
    found: list[Rows] = []
    for start in range(0, len(query_vectors), _CHUNK):
        cosines = query_vectors[start : start + _CHUNK] @ title_vectors.T
        for offset, of_query in enumerate(cosines):
            query = start + offset
            of_query[known[query]] = -np.inf
            of_query[of_query >= _ceiling(positive_cosines[query], share_of_positive)] = -np.inf
            found.append(_best(of_query, count))
    return found


def _ceiling(positive: float, share: float) -> float:
    # Below 0 a share would lie above the positive itself.
    return float(positive) - (1 - share) * abs(float(positive))


def _best(cosines: Floats, count: int) -> Rows:
    count = min(count, len(cosines))
    if not count:
        return np.empty(0, np.int64)
    rows = np.argpartition(-cosines, count - 1)[:count]
    rows = rows[np.argsort(-cosines[rows], kind="stable")]
    return rows[np.isfinite(cosines[rows])].astype(np.int64)
