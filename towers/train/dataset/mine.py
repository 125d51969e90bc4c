"""Hard negatives: titles that a tower takes for matches of a query and that are none.

sentence-transformers has `mine_hard_negatives`. This differs where false negatives get in: a match counts in both
directions and whatever its case, a near copy of a match is none, every title is looked at (theirs looks at the 10 x
`num_negatives` closest, and finds nothing for a query whose neighbourhood is dense with its matches), and it needs
vectors only, so an int8 bundle without torch will do. What it has besides, a cross-encoder as judge, is here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.train.data import PairSet, Split, text_key
from towers.train.scorer_training import ScorerPairs

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

# An unlabelled title closer to the query than 95% of its positive's cosine is too often a match that nobody
# labelled (Moreira et al. 2024, "NV-Retriever", section 4: TopK-PercPos with 95%).
SHARE_OF_POSITIVE = 0.95
MOST_FOR_A_QUERY = 5  # guess, untested
COPY = 0.95  # cosine from which a title is a copy of a known match under other words; guess, untested
_SPARE = (
    4  # candidates looked at for each one wanted, since some are copies or too good for the cross-encoder
)
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


@dataclass(frozen=True)
class MineRecipe:
    """What may be called a hard negative.

    Sources: the margin, Moreira et al. 2024 ("NV-Retriever", section 4); the cross-encoder as judge, Qu et al. 2021
    ("RocketQA"). Costs one encoding of all titles. Not for sets in which people labelled enough non-matches: among
    mined ones there are matches that nobody labelled, and the scorer got worse by them (docs/experiments.md).

    Attributes:
        count: At most this many for each query that has a match.
        share_of_positive: A title's cosine must stay below this share of that of the query's weakest match.
        copy: A title with at least this cosine to a known match of the query is taken for a copy of it.
        most_score: With a cross-encoder: what it gives more than this is not taken; 0.1 in RocketQA.
    """

    count: int = MOST_FOR_A_QUERY
    share_of_positive: float = SHARE_OF_POSITIVE
    copy: float = COPY
    most_score: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.count < 1:
            raise InputError(f"mine: found count = {self.count}, expected at least 1")
        for name in ("share_of_positive", "copy", "most_score"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"mine: found {name} = {getattr(self, name)}, expected above 0 and up to 1")


@dataclass(frozen=True)
class Mined:
    """A non-match that was found.

    Attributes:
        query: Its text.
        title: Its text.
        cosine: Of the two.
        score: The cross-encoder's, None without one.
    """

    query: str
    title: str
    cosine: float
    score: float | None = None


def mine_titles(
    queries: Sequence[str],
    titles: Sequence[str],
    positive: NDArray[np.bool_],
    *,
    candidates: Sequence[str] = (),
    encode: Callable[[Sequence[str]], Floats],
    encode_queries: Callable[[Sequence[str]], Floats] | None = None,
    score: Callable[[Sequence[str], Sequence[str]], Floats] | None = None,
    recipe: MineRecipe | None = None,
) -> list[Mined]:
    """Find hard negatives of the queries that have a match, by query, hardest first; no labelled pair is among them.

    Args:
        queries: n texts.
        titles: n texts.
        positive: (n,) bool, which pairs match.
        candidates: Further titles; those of the pairs are always candidates.
        encode: Titles -> vectors of length 1.
        encode_queries: The same for queries; None where one tower serves both.
        score: A cross-encoder: queries and titles -> (n,) in 0..1.
        recipe: Settings; None for the defaults.
    """
    recipe = recipe or MineRecipe()
    matches, labelled = _known_titles(queries, titles, positive)
    pool = {text_key(title): title for title in (*candidates, *titles)}
    place = {key: i for i, key in enumerate(pool)}
    texts = {text_key(query): query for query in queries}
    asked = [key for key in matches if key in texts]
    if not asked:
        return []
    vectors = encode(list(pool.values()))
    query_vectors = (encode_queries or encode)([texts[key] for key in asked])
    of_match = [[place[title] for title in matches[key] if title in place] for key in asked]
    found = hard_negatives(
        query_vectors,
        vectors,
        positive_cosines=np.array(
            [(vectors[rows] @ query).min() for rows, query in zip(of_match, query_vectors, strict=True)],
            np.float32,
        ),
        known=[np.array([place[t] for t in labelled[key] if t in place], np.int64) for key in asked],
        count=_SPARE * recipe.count,
        share_of_positive=recipe.share_of_positive,
    )
    names = list(pool.values())
    mined: list[Mined] = []
    for key, query, rows, own in zip(asked, query_vectors, found, of_match, strict=True):
        rows = rows[(vectors[rows] @ vectors[own].T).max(axis=1, initial=-1) < recipe.copy]
        entries = [Mined(texts[key], names[i], float(vectors[i] @ query)) for i in rows]
        mined.extend(_judged(entries, score, recipe)[: recipe.count])
    return mined


def _known_titles(
    queries: Sequence[str], titles: Sequence[str], positive: NDArray[np.bool_]
) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """For each text: those that match it, and all that it has a label with, itself included; in both directions."""
    matches: dict[str, list[str]] = {}
    for query, title, matching in zip(queries, titles, positive, strict=True):
        if matching:
            matches.setdefault(text_key(query), []).append(text_key(title))
    return matches, known_positives(queries, titles, np.ones(len(queries), bool))


def _judged(
    entries: list[Mined], score: Callable[[Sequence[str], Sequence[str]], Floats] | None, recipe: MineRecipe
) -> list[Mined]:
    if score is None or not entries:
        return entries
    scores = score([entry.query for entry in entries], [entry.title for entry in entries])
    judged = [
        Mined(entry.query, entry.title, entry.cosine, float(value))
        for entry, value in zip(entries, scores, strict=True)
    ]
    return [entry for entry in judged if entry.score is not None and entry.score <= recipe.most_score]
