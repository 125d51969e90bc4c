"""New pairs from the queries and titles of a set, labelled by a cross-encoder (Thakur et al. 2021, "Augmented SBERT").

Random pairs are nearly all non-matches that any tower tells; so a query is put together with titles that share its
words (BM25) or lie near it, and what the cross-encoder makes of them is the label (section 3.1 of the paper).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.train.data import PairSet, Split, text_key
from towers.train.dataset.augment import AugmentRecipe, with_pairs
from towers.train.pretraining.segment import Segmenter

Floats = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Floats]
Score = Callable[[Sequence[str], Sequence[str]], Floats]
"""Queries and titles, side by side -> how well they match, float32 (n,) in 0..1."""

_K1, _B = 1.5, 0.75  # the usual middle of what Robertson and Zaragoza 2009 ("BM25 and beyond") recommend
_CHUNK = 512  # queries whose values for all titles are in memory at once


@dataclass(frozen=True)
class NewPairs:
    """Recombined pairs.

    Attributes:
        queries: m texts.
        titles: m texts.
        labels: (m,) float32 in 0..1: 0 or 1 in a set of these two, a grade's place in a graded one, else the score.
        scores: (m,) float32 in 0..1, of the cross-encoder.
        candidates: Pairs that were scored; what was not sure, or too many of one kind, is not among the m.
    """

    queries: list[str]
    titles: list[str]
    labels: Floats
    scores: Floats
    candidates: int


def recombined(
    pairs: PairSet, *, score: Score, recipe: AugmentRecipe | None = None, encode: Encode | None = None
) -> NewPairs:
    """Make new pairs of a set.

    In a set of 1 and 0 only pairs of which the cross-encoder is sure are kept, and no more non-matches for a match
    than the set itself has: nearly all candidates are non-matches, and another share of matches moves thresholds.

    Args:
        pairs: The set; none of its pairs is made again.
        score: The cross-encoder.
        recipe: Settings; None for the defaults.
        encode: Texts -> vectors of length 1, for `sampling = "vectors"`.

    Raises:
        InputError: Sampling by vectors, and no `encode`; or scores outside 0..1.
    """
    recipe = recipe or AugmentRecipe()
    queries, titles = _candidates(pairs, recipe, encode)
    if not queries:
        return NewPairs([], [], np.empty(0, np.float32), np.empty(0, np.float32), 0)
    scores = np.asarray(score(queries, titles), np.float32)
    if scores.shape != (len(queries),) or not ((scores >= 0) & (scores <= 1)).all():
        raise InputError(
            f"the cross-encoder gave scores of shape {scores.shape} for {len(queries)} pairs, up to "
            f"{scores.max(initial=0):.3g}; expected for each pair one in 0 to 1"
        )
    labels, kept = _labelled(pairs, scores, recipe)
    return NewPairs(
        [queries[i] for i in kept], [titles[i] for i in kept], labels[kept], scores[kept], len(queries)
    )


def recombine_split(
    pairs: PairSet,
    split: Split,
    *,
    score: Score,
    recipe: AugmentRecipe | None = None,
    encode: Encode | None = None,
) -> tuple[PairSet, Split]:
    """Return the set with new pairs of its training side, which they join. Arguments as in `recombined`."""
    rows = np.flatnonzero(split.train)
    side = PairSet(
        name=pairs.name,
        queries=[pairs.queries[i] for i in rows],
        titles=[pairs.titles[i] for i in rows],
        labels=pairs.labels[rows],
        lowest=pairs.lowest,
        highest=pairs.highest,
        kind=pairs.kind,
        rows=len(rows),
    )
    new = recombined(side, score=score, recipe=recipe, encode=encode)
    return with_pairs(pairs, split, queries=new.queries, titles=new.titles, labels=new.labels)


def _candidates(pairs: PairSet, recipe: AugmentRecipe, encode: Encode | None) -> tuple[list[str], list[str]]:
    """The best titles of each query that it has no label with, first all best ones, up to the number wanted."""
    queries, titles = _distinct(pairs.queries), _distinct(pairs.titles)
    known = {(text_key(a), text_key(b)) for a, b in zip(pairs.queries, pairs.titles, strict=True)}
    close = _close(list(queries.values()), list(titles.values()), recipe, encode)
    title_keys = list(titles)
    ranked: list[tuple[int, str, str]] = []
    for key, rows in zip(queries, close, strict=True):
        fresh = [title_keys[i] for i in rows if title_keys[i] != key and (key, title_keys[i]) not in known]
        ranked.extend((rank, key, title) for rank, title in enumerate(fresh[: recipe.neighbours]))
    order = np.random.default_rng(recipe.seed).permutation(len(ranked))
    chosen = sorted(order.tolist(), key=lambda i: ranked[i][0])[
        : max(1, round(recipe.new_pairs * len(pairs)))
    ]
    return [queries[ranked[i][1]] for i in chosen], [titles[ranked[i][2]] for i in chosen]


def _close(
    queries: list[str], titles: list[str], recipe: AugmentRecipe, encode: Encode | None
) -> list[NDArray[np.int64]]:
    """For each query the rows of titles that it may go with, best first."""
    # Of those found some have a label with the query already.
    most = 4 * recipe.neighbours + 4
    if recipe.sampling == "bm25":
        a, b = bm25_matrices(queries, titles)
        return [
            row
            for start in range(0, len(queries), _CHUNK)
            for row in _best(a[start : start + _CHUNK] @ b.T, most)
        ]
    if encode is None:
        raise InputError('sampling = "vectors" needs vectors: give `encode`, or take sampling = "bm25"')
    u, v = encode(queries), encode(titles)
    return [
        row
        for start in range(0, len(queries), _CHUNK)
        for row in _best(u[start : start + _CHUNK] @ v.T, most)
    ]


def bm25_matrices(queries: Sequence[str], titles: Sequence[str]) -> tuple[Any, Any]:
    """Return sparse matrices whose product, queries (q, words) x titles (t, words) transposed, is BM25 (q, t).

    Words are those of `segment.Segmenter`: by spaces in English, by jieba in Chinese.
    """
    from scipy.sparse import csr_matrix, diags
    from sklearn.feature_extraction.text import CountVectorizer

    segmenter = Segmenter()

    def words(text: str) -> list[str]:
        low = text.lower()
        return [low[slice(*span)] for span in segmenter.words(low) if low[span[0]].isalnum()] or [low]

    counter = CountVectorizer(analyzer=words, dtype=np.float32)
    counts = csr_matrix(counter.fit_transform(titles))
    length = np.asarray(counts.sum(axis=1)).ravel()
    found = np.asarray((counts > 0).sum(axis=0)).ravel()
    idf = np.log1p((len(titles) - found + 0.5) / (found + 0.5))
    norm = _K1 * (1 - _B + _B * length / length.mean())
    weights = counts.copy()
    weights.data *= (_K1 + 1) / (counts.data + np.repeat(norm, np.diff(counts.indptr)))
    asked = csr_matrix(counter.transform(queries) > 0, dtype=np.float32)
    return asked, csr_matrix(weights @ diags(idf))


def _best(values: Any, most: int) -> list[NDArray[np.int64]]:
    """Rows of the largest positive values of each line, best first."""
    dense = np.asarray(values.todense() if hasattr(values, "todense") else values)
    order = np.argsort(-dense, axis=1, kind="stable")[:, :most]
    return [line[dense[i, line] > 0].astype(np.int64) for i, line in enumerate(order)]


def _labelled(pairs: PairSet, scores: Floats, recipe: AugmentRecipe) -> tuple[Floats, NDArray[np.int64]]:
    """Return labels in 0..1 and the rows that are kept."""
    if pairs.kind == "float":
        return scores, np.arange(len(scores), dtype=np.int64)
    if pairs.kind == "graded":
        places = np.unique(pairs.labels)
        return places[np.abs(scores[:, None] - places).argmin(axis=1)], np.arange(len(scores), dtype=np.int64)
    labels = (scores >= 0.5).astype(np.float32)
    matches = np.flatnonzero(scores >= recipe.certain)
    others = np.flatnonzero((scores <= 1 - recipe.certain) & (scores < 0.5))
    positive = int(pairs.positive.sum())
    most = math.ceil(max(1, len(matches)) * (len(pairs) - positive) / max(1, positive))
    others = others[:most]  # candidates come best first: these are the hardest
    return labels, np.sort(np.concatenate([matches, others])).astype(np.int64)


def _distinct(texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(text_key(text), text)
    return found
