"""Hard negatives: titles that a tower takes for matches of a query and that are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from towers.train.data import PairSet, Split, text_key
from towers.train.scorer_training import ScorerPairs

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

# An unlabelled title closer to the query than 95% of its positive's cosine is too often a match that nobody
# labelled (Moreira et al. 2024, "NV-Retriever", section 4: TopK-PercPos with 95%).
SHARE_OF_POSITIVE = 0.95
MOST_FOR_A_QUERY = 5  # guess, untested
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


def mined_pairs(
    data: PairSet,
    split: Split,
    vectors: ScorerPairs,
    *,
    most: int = MOST_FOR_A_QUERY,
    share_of_positive: float = SHARE_OF_POSITIVE,
    seed: int = 0,
) -> ScorerPairs:
    """Return the hard negatives that a set lacks on its training side, as pairs with label 0.

    Args:
        data: The set; none of its labelled pairs is returned.
        split: Only the training side is used.
        vectors: The set's pairs as rows of a table of vectors.
        most: At most this many titles for a query that has a match; 0 mines none.
        share_of_positive: As in `hard_negatives`.
        seed: Of the choice among all that were found, when fewer are lacking.
    """
    rows = np.flatnonzero(split.train)
    keys = [(text_key(data.queries[i]), text_key(data.titles[i])) for i in rows]
    # Every labelled pair counts as known here: its own label says more than a mined 0.
    known = known_positives([a for a, _ in keys], [b for _, b in keys], np.ones(len(keys), bool))
    title_rows: dict[str, int] = {}
    weakest: dict[int, float] = {}
    key_of: dict[int, str] = {}
    for i, (query_key, title_key) in zip(rows, keys, strict=True):
        title_rows.setdefault(title_key, int(vectors.titles[i]))
        if data.positive[i]:
            query = int(vectors.queries[i])
            cosine = float(vectors.vectors[query] @ vectors.vectors[vectors.titles[i]])
            weakest[query] = min(weakest.get(query, 1.0), cosine)
            key_of[query] = query_key
    place = {key: i for i, key in enumerate(title_rows)}
    of_title = np.array(list(title_rows.values()), np.int64)
    found = hard_negatives(
        vectors.vectors[list(weakest)],
        vectors.vectors[of_title],
        positive_cosines=np.array(list(weakest.values()), np.float32),
        known=[np.array([place[t] for t in known[key_of[q]] if t in place], np.int64) for q in weakest],
        count=most,
        share_of_positive=share_of_positive,
    )
    queries = np.repeat(np.array(list(weakest), np.int64), [len(x) for x in found])
    titles = of_title[np.concatenate([np.empty(0, np.int64), *found])]
    kept = np.random.default_rng(seed).permutation(len(titles))[: _wanted(data, rows)]
    return ScorerPairs(
        vectors=vectors.vectors,
        queries=queries[kept],
        titles=titles[kept],
        labels=np.zeros(len(kept), np.float32),
        sets=np.full(len(kept), vectors.sets[0], np.int64),
    )


def _wanted(data: PairSet, rows: NDArray[np.int64]) -> int:
    """How many non-matches a set lacks, to have as many as matches.

    Where people labelled enough of them, mined ones make the scorer worse (docs/experiments.md): among them are
    matches that nobody labelled.
    """
    matches = int(data.positive[rows].sum())
    return max(0, 2 * matches - len(rows))
